"""boto3: a session as a program makes it, and its default chain."""

import boto3
from contract import ENDPOINT, run

session = boto3.Session()
s3, sts = session.client("s3", endpoint_url=ENDPOINT), session.client("sts", endpoint_url=ENDPOINT)
run(s3.list_buckets, sts.get_caller_identity)
