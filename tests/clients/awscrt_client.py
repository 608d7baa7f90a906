"""The AWS C runtime: its default chain, its signer and its HTTP client; S3 and STS are requests made by hand."""

import os
from urllib.parse import urlsplit

from awscrt import auth, http, io
from contract import ENDPOINT, run

TIME_LIMIT = 60
aws = urlsplit(ENDPOINT)
bootstrap = io.ClientBootstrap.get_or_create_static_default()
chain = auth.AwsCredentialsProvider.new_default_chain(bootstrap)


def call(service, method, path):
    headers = http.HttpHeaders([("Host", aws.netloc)])
    request = http.HttpRequest(method, path, headers)
    config = auth.AwsSigningConfig(
        algorithm=auth.AwsSigningAlgorithm.V4,
        signature_type=auth.AwsSignatureType.HTTP_REQUEST_HEADERS,
        credentials_provider=chain,
        region=os.environ["AWS_REGION"],
        service=service,
        signed_body_header_type=auth.AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256,
    )
    auth.aws_sign_request(request, config).result(TIME_LIMIT)
    connection = http.HttpClientConnection.new(aws.hostname, aws.port, bootstrap).result(TIME_LIMIT)
    stream = connection.request(request)
    stream.activate()
    status = stream.completion_future.result(TIME_LIMIT)
    connection.close()
    if status != 200:
        raise RuntimeError(f"{service}: {status}")


run(
    lambda: call("s3", "GET", "/"),
    lambda: call("sts", "GET", "/?Action=GetCallerIdentity&Version=2011-06-15"),
)
