"""aiobotocore: one session, and its default chain."""

import asyncio

from aiobotocore.session import get_session
from contract import ENDPOINT, run


async def main():
    loop, session = asyncio.get_running_loop(), get_session()
    async with (
        session.create_client("s3", endpoint_url=ENDPOINT) as s3,
        session.create_client("sts", endpoint_url=ENDPOINT) as sts,
    ):

        def waited_for(call):
            return lambda: asyncio.run_coroutine_threadsafe(call(), loop).result()

        await asyncio.to_thread(run, waited_for(s3.list_buckets), waited_for(sts.get_caller_identity))


asyncio.run(main())
