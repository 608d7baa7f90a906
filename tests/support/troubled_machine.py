"""A machine's clocks, and an AWS by true time that has bad hours: what a simulation of hosts has in place of both."""

import asyncio
from datetime import UTC, datetime
from email.utils import formatdate

from botocore.exceptions import ClientError, EndpointConnectionError

from imds_proxy.aws import signing_guard
from imds_proxy.aws.signing_guard import SigningGuard
from support.plane import credentials
from support.virtual_time import EPOCH

DAY = 86400.0
WINDOW = 300.0
"""Seconds that a signature may be off."""
RIGHT = 2.0
"""Seconds within which a wall clock is right."""


class Machine:
    """The clocks of one: true time is what AWS has."""

    def __init__(self, loop, chance):
        self._loop, self._suspended, self._booted = loop, 0.0, -chance.uniform(0, 30 * DAY)
        self._pace = 1 + chance.uniform(-50e-6, 50e-6)
        self._off = self._drift = self._since = 0.0

    def true(self):
        return EPOCH + self._loop.time() + self._suspended

    def boot(self):
        return (self._loop.time() + self._suspended - self._booted) * self._pace

    def wall(self):
        return self.true() + self._off + self._drift * (self.true() - self._since)

    def set(self, off, drift=0.0):
        self._off, self._drift, self._since = off, drift, self.true()

    def suspend(self, seconds):
        self._suspended += seconds

    def reboot(self):
        self._booted = self._loop.time() + self._suspended

    @property
    def is_right(self):
        return abs(self.wall() - self.true()) < RIGHT


class Aws:
    """Gives sessions by true time, refuses signatures that are off, and has bad hours."""

    def __init__(self, machine, chance, life):
        self.machine, self.chance, self.life = machine, chance, life
        self.is_away = self.throttles = False
        self.wrong_dates = {}
        """Seconds that an endpoint's next answers are off, and how many."""
        self.answered = lambda: None

    async def ask(self, endpoint):
        signed = self.machine.wall() + getattr(signing_guard._CURRENT.get(), "skew", 0.0)
        await asyncio.sleep(self.chance.uniform(0.02, 1.0))
        if self.is_away:
            if self.chance.random() < 0.5:
                await asyncio.sleep(30)  # it hangs
            raise EndpointConnectionError(endpoint_url=endpoint)
        now = self.machine.true()
        off = self._date_is_off(endpoint)
        metadata = {"HTTPHeaders": {"date": formatdate(now + off, usegmt=True)}}
        await asyncio.sleep(self.chance.uniform(0.02, 1.0))
        if self.throttles:
            raise _refusal("ThrottlingException", "Rate exceeded", 400, metadata)
        if not off:  # a signature that was accepted, or refused for its time: that is believed
            self.answered()
        if abs(signed - now) > WINDOW:
            raise _refusal("SignatureDoesNotMatch", "Signature expired: too old", 403, metadata)
        return now, metadata

    def _date_is_off(self, endpoint):
        off, left = self.wrong_dates.pop(endpoint, (0.0, 0))
        if left > 1:
            self.wrong_dates[endpoint] = off, left - 1
        return off


def _refusal(code, message, status, metadata):
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata | {"HTTPStatusCode": status}}, "x"
    )


class Sts:
    """What the source has in place of botocore's client and session."""

    def __init__(self, aws, endpoint):
        self.aws, self.meta, self.count = aws, self, 0
        self.endpoint_url = endpoint

    async def assume_role(self, **_):
        now, metadata = await self.aws.ask(self.endpoint_url)
        self.count += 1
        made = credentials(now=now, key=f"{self.count:04}")
        return {
            "Credentials": {
                "AccessKeyId": made.access_key_id,
                "SecretAccessKey": made.secret_access_key.reveal(),
                "SessionToken": made.session_token.reveal(),
                "Expiration": datetime.fromtimestamp(int(now + self.aws.life), UTC),
            },
            "AssumedRoleUser": {"Arn": made.session_arn},
            "ResponseMetadata": metadata,
        }

    async def get_caller_identity(self):
        await self.aws.ask(self.endpoint_url)
        return {"Arn": "arn:aws:iam::123456789012:user/host"}

    async def fresh_session(self, *_, **__):
        return self

    async def client(self, *_):
        return self

    def get_component(self, _):
        return SigningGuard("deploy")
