"""The AWS SDK for C++, as pyarrow has it built in: S3 alone, by the default chain."""

import os

from contract import ENDPOINT, run
from pyarrow.fs import FileSelector, S3FileSystem

s3 = S3FileSystem(region=os.environ["AWS_REGION"], scheme="http", endpoint_override=ENDPOINT.removeprefix("http://"))
run(lambda: s3.get_file_info(FileSelector("")))
