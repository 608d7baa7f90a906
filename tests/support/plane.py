"""The data plane in this process, on real sockets, with credentials that a test hands it."""

import asyncio
import hashlib
import time
from contextlib import asynccontextmanager
from typing import NamedTuple

from imds_proxy.callers.grant_token_files import TokenFiles
from imds_proxy.callers.kubernetes.verifier import ServiceAccounts
from imds_proxy.callers.peer import Callers
from imds_proxy.callers.socket_owner import SocketOwners
from imds_proxy.callers.user_database import Accounts
from imds_proxy.config.reader import parse
from imds_proxy.credentials import Credentials, Secret
from imds_proxy.host.clock import Clock
from imds_proxy.metadata.dataplane import data_plane
from imds_proxy.metadata.listeners import Server
from imds_proxy.metadata.role_tokens import RoleToken, RoleTokens
from imds_proxy.metadata.session_tokens import SessionTokens, Tokens
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.telemetry.stats import RenewalStats, RequestStats

ACCOUNT = "123456789012"
KEY = b"k" * 32
CONTAINER_TOKEN = "container-token-of-"


class Answer(NamedTuple):
    status: int | None
    headers: dict[str, str]
    body: bytes


def credentials(role: str = "deploy", life: float = 3600.0, now: float | None = None, key: str = "AAAA") -> Credentials:
    now = time.time() if now is None else now
    return Credentials(
        access_key_id=f"ASIAEXAMPLEKEYID{key}",
        secret_access_key=Secret("secret-access-key/of+the+test"),
        session_token=Secret("session-token/of+the+test=="),
        expiration=now + life,
        obtained=now,
        role_arn=f"arn:aws:iam::{ACCOUNT}:role/path/{role}",
        session_arn=f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/host",
    )


def role_table(name: str = "deploy", **settings) -> dict:
    return {name: {"role_arn": f"arn:aws:iam::{ACCOUNT}:role/path/{name}", **settings}}


class Plane:
    """Everything that a test of the data plane turns: keepers, clock, server."""

    def __init__(
        self,
        clock: Clock,
        keepers: dict[str, Keeper],
        server: Server,
        *,
        address: str | None = None,
        audit: "Recorded | None" = None,
    ):
        self.audit = audit
        self.clock, self.keepers, self.server = clock, keepers, server
        self.stats = server.stats
        self._address = address

    def through(self, address: str) -> "Plane":
        """The same plane, asked at `address` (`HOST:PORT`)."""
        return Plane(self.clock, self.keepers, self.server, address=address, audit=self.audit)

    @property
    def address(self) -> str:
        return self._address or next(filter(None, self.server.listeners.values()))

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def host(self) -> str:
        return self.address.rpartition(":")[0].strip("[]")

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new connection."""
        return await asyncio.open_connection(self.host, self.port)

    async def raw(self, data: bytes, *, eof: bool = True) -> bytes:
        """Send bytes, and read until the server closes."""
        reader, writer = await self.connect()
        try:
            writer.write(data)
            if eof:
                writer.write_eof()
            return await asyncio.wait_for(reader.read(), 5)
        finally:
            writer.close()

    async def ask(self, target: str, method: str = "GET", headers: dict | None = None, *, body: bytes = b"") -> Answer:
        """One request on a connection of its own, the target sent as it stands; `Answer(None, {}, b"")` for none."""
        lines = {"Host": self.address, "Connection": "close", **(headers or {})}
        if body:
            lines["Content-Length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
        answers = parse_answers(await self.raw(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body), [method])
        return answers[0] if answers else Answer(None, {}, b"")

    async def token(self, ttl: int | str = 300, **headers) -> str:
        answer = await self.ask("/latest/api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": ttl, **headers})
        assert answer.status == 200, answer
        return answer.body.decode()

    async def get(self, target: str, method: str = "GET", headers: dict | None = None) -> Answer:
        """A request with a fresh session token."""
        return await self.ask(target, method, {"X-aws-ec2-metadata-token": await self.token(), **(headers or {})})

    async def get_container(self, role: str = "deploy") -> Answer:
        return await self.ask(f"/roles/{role}", headers={"Authorization": CONTAINER_TOKEN + role})


def parse_answers(data: bytes, methods: list[str]) -> list[Answer]:
    """Every HTTP answer in `data`, given the methods of the requests; fails on a byte that belongs to none."""
    answers = []
    for method in methods:
        if not data:
            break
        head, separator, data = data.partition(b"\r\n\r\n")
        assert separator, head
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = 0 if method == "HEAD" else int(headers["content-length"])
        answers.append(Answer(int(status_line.split()[1]), headers, data[:length]))
        data = data[length:]
    assert not data, data
    return answers


class Recorded:
    """What the audit is told, as a list."""

    def __init__(self):
        self.lines = []

    def record(self, who, **said):
        self.lines.append((who, said))


def role_tokens(roles, clock):
    """Those of roles that have been read: `CONTAINER_TOKEN` and the role's name."""
    made = RoleTokens(clock)
    made._tokens = {
        name: RoleToken(hashlib.sha256((CONTAINER_TOKEN + name).encode()).digest(), clock.wall()) for name in roles
    }
    made._loaded.set()
    return made


async def build(config, served, *, clock, region="eu-west-1", audit=None):
    """The data plane of `config`."""
    tokens = Tokens(SessionTokens(KEY), role_tokens(served, clock), TokenFiles(), ServiceAccounts())
    await tokens.service_accounts.follow(config)
    await tokens.files.follow(())
    return data_plane(
        config,
        served,
        {},
        clock=clock,
        tokens=tokens,
        region=region,
        hosts=[address.rpartition(":")[0].strip("[]") for address in config.metadata.listen],
        audit=audit or Recorded(),
    )


ANY_ADDRESS = [{"role": "deploy", "address": "0.0.0.0/0"}]
"""Grants for a listener that other hosts reach: such a one needs some."""


@asynccontextmanager
async def plane(
    *,
    held=("deploy",),
    roles=None,
    region="eu-west-1",
    clock=None,
    listen="127.0.0.1:0",
    **tables,
):
    """A data plane with the given config tables; roles named in `held` have credentials for an hour."""
    clock, stats, audit = clock or Clock(), RequestStats(), Recorded()
    listeners = [listen] if isinstance(listen, str) else listen
    metadata = {"listen": listeners, **tables.pop("metadata", {})}
    config = parse({"region": region, "roles": roles or role_table(), "metadata": metadata, **tables}, "test")
    keepers = {name: Keeper(name, clock=clock, stats=RenewalStats()) for name in config.roles}
    for name in held:
        keepers[name].adopt(credentials(name, now=clock.wall()), due=False)
    served = {name: keeper for name, keeper in keepers.items() if config.roles[name].serve}
    built = await build(config, served, clock=clock, region=config.region, audit=audit)
    callers = Callers(SocketOwners(), Accounts())
    server = Server(stats, clock, callers)
    server.answer = built.answer
    await server.listen(config.metadata.listen, config.metadata.hop_limit, {})
    try:
        yield Plane(clock, keepers, server, audit=audit)
    finally:
        await server.close()
        callers.close()
