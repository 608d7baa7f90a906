"""An unmodified boto3 program: for every line read, a signed call of STS and one of S3, by the default chain alone."""

import datetime as dt
import json
import sys

import boto3

session = boto3.Session()
sts, s3 = session.client("sts"), session.client("s3")


def half_an_hour_passes():
    """What the passing of time does to the cached credentials: their end comes near, and the SDK asks for new ones."""
    credentials = session.get_credentials()
    credentials._expiry_time = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5)


for line in sys.stdin:
    if line.strip() == "age":
        half_an_hour_passes()
    identity = sts.get_caller_identity()
    print(json.dumps({"arn": identity["Arn"], "buckets": len(s3.list_buckets()["Buckets"])}), flush=True)
