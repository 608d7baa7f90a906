"""object_store of Rust, as obstore has it built in: S3 alone, by the default chain."""

import os

from contract import ENDPOINT, run
from obstore.store import S3Store

s3 = S3Store("bucket", endpoint=ENDPOINT, region=os.environ["AWS_REGION"], client_options={"allow_http": True})
run(lambda: list(s3.list()))
