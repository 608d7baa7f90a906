"""The control plane in this process, whose callers are told apart by the address they come from."""

import asyncio
import contextlib
import itertools

from imds_proxy.admin import app
from imds_proxy.admin.pages import Documents
from imds_proxy.admin.status import Status
from imds_proxy.callers.caller import Caller
from imds_proxy.callers.peer import Place
from imds_proxy.config.reader import parse
from imds_proxy.host.clock import Clock
from imds_proxy.host.listening_sockets import open_listener
from imds_proxy.output_files.all_output_files import Outputs
from imds_proxy.renewal.renew_now import RenewNow
from imds_proxy.renewal.roles import Roles
from imds_proxy.telemetry.measured import Measured
from imds_proxy.telemetry.metrics import Metrics
from imds_proxy.telemetry.stats import RenewalStats, RequestStats, RoleFigures, SessionTimes

ROOT, REMOTE = "127.0.0.1", "127.0.1.1"
"""127.0.0.N is the user with the uid N-1; 127.0.1.N is another host."""

SHOWN = SessionTimes(1_800_001_800, 1_800_000_000, 1_800_003_600)


class CallersByAddress:
    """Stands for the kernel."""

    def place(self, _, listener):
        return Place(listener, here=True)

    def identify(self, transport, place, told):
        host = transport.get_extra_info("peername")[0]
        *_, network, number = map(int, host.split("."))
        if network:
            told(Caller(f"192.0.2.{number}", place.listener, host.encode()), 0)
            return
        uid = number - 1
        told(Caller("127.0.0.1", place.listener, f"uid {uid}".encode(), uid, "root" if not uid else f"user{uid}"), 1)


class Plane:
    """What a test asks of it."""

    def __init__(self, address, metrics, status, control_plane):
        self.address, self.metrics, self.status, self.control_plane = address, metrics, status, control_plane
        self.writers = []

    @property
    def connections(self):
        return self.control_plane._connections

    async def open(self, caller=ROOT):
        reader, writer = await asyncio.open_connection(*self.address, local_addr=(caller, 0))
        self.writers.append(writer)
        return reader, writer

    async def wire(self, data, caller=ROOT, within=5.0):
        """Everything that comes back for some bytes, until the end."""
        reader, writer = await self.open(caller)
        try:
            writer.write(data if isinstance(data, bytes) else data.encode())
            async with asyncio.timeout(within):
                return (await reader.read()).decode()
        except ConnectionError:
            return ""
        finally:
            writer.close()

    async def get(self, path, caller=ROOT, host="127.0.0.1:9338", method="GET", **headers):
        """Status, headers by lower-case name, and body."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        head, _, body = (await self.wire("\r\n".join([*lines, "", ""]), caller)).partition("\r\n\r\n")
        first, *rest = head.split("\r\n")
        return int(first.split()[1]), {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in rest)}, body


@contextlib.asynccontextmanager
async def control_plane(roles=("deploy", "logs"), grants=(), tables=None, further=None, **admin):
    """A control plane on a free port; no role has credentials, but the metrics show some.

    `tables`: further keys of roles, by name; `further`: other tables of the config.
    """
    arns = {name: {"role_arn": f"arn:aws:iam::123456789012:role/{name}"} for name in roles}
    for name, keys in (tables or {}).items():
        arns[name] |= keys
    if not grants:
        arns[roles[0]]["default"] = True
    config = parse({"roles": arns, "admin": admin, "grants": list(grants), **(further or {})}, "test")
    clock, requests, renewals = Clock(), RequestStats(), RenewalStats()
    kept = Roles(clock, renewals, lambda: None)
    kept.update(config, None)
    for name, outcome in itertools.product(roles, ("success", "denied")):
        renewals.record(name, outcome, 0.1, clock.now())
    figures = {name: RoleFigures("assume-role", "", [SHOWN]) for name in roles}
    listeners = {"127.0.0.1:1338": "127.0.0.1:1338"}
    measured = Measured(clock, requests, renewals, roles=lambda: figures, listeners=lambda: listeners)
    metrics = Metrics(measured)
    outputs = Outputs(kept.live, kept.is_pending, renewals, clock)
    status = Status(measured, kept, outputs, lambda: config)
    listening = open_listener("127.0.0.1:0", {})
    address = listening.getsockname()
    documents = Documents(status, metrics, lambda: config, RenewNow(kept))
    made = await app.start(documents, CallersByAddress(), listening, config.admin.listen)
    plane = Plane(address, metrics, status, made)
    plane.roles, plane.config = kept, config
    try:
        yield plane
    finally:
        for writer in plane.writers:
            writer.close()
        await made.close()
        await asyncio.gather(*(writer.wait_closed() for writer in plane.writers), return_exceptions=True)
