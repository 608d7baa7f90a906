"""A program that knows no session token, as s3fs 1.90: fetches the document by itself, and signs with what it got."""

import json
import os
import sys
import urllib.request

import boto3

ROLES = os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] + "latest/meta-data/iam/security-credentials/"


def fetch(url):
    with urllib.request.urlopen(url, timeout=2) as answer:
        return answer.read().decode()


for _ in sys.stdin:
    document = json.loads(fetch(ROLES + fetch(ROLES)))
    session = boto3.Session(document["AccessKeyId"], document["SecretAccessKey"], document["Token"])
    identity = session.client("sts").get_caller_identity()
    print(
        json.dumps({"arn": identity["Arn"], "buckets": len(session.client("s3").list_buckets()["Buckets"])}), flush=True
    )
