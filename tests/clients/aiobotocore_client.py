"""An unmodified aiobotocore program: as boto3_client.py."""

import asyncio
import datetime as dt
import json
import sys

from aiobotocore.session import get_session


async def half_an_hour_passes(session):
    """What the passing of time does to the cached credentials: their end comes near, and the SDK asks for new ones."""
    credentials = await session.get_credentials()
    credentials._expiry_time = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5)


async def main():
    session = get_session()
    async with session.create_client("sts") as sts, session.create_client("s3") as s3:
        while line := await asyncio.to_thread(sys.stdin.readline):
            if line.strip() == "age":
                await half_an_hour_passes(session)
            identity = await sts.get_caller_identity()
            buckets = await s3.list_buckets()
            print(json.dumps({"arn": identity["Arn"], "buckets": len(buckets["Buckets"])}), flush=True)


asyncio.run(main())
