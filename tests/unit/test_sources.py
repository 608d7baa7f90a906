"""What holds for every source (sources/interface.py, sources/factory.py)."""

import inspect
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from imds_proxy.config.reader import parse
from imds_proxy.config.roles import ROLE_TABLES
from imds_proxy.errors import Invalid
from imds_proxy.host.clock import Clock
from imds_proxy.sources import Source, obtain
from imds_proxy.sources.factory import SourceFactory, maker
from support.plane import credentials, role_table

NOW = 1_800_000_000.0


class Handing(Source):
    def __init__(self, held):
        self.held = held

    async def fetch(self):
        return self.held


@pytest.mark.parametrize(
    ("expiration", "says"),
    [
        (NOW, "dead since 2027"),
        (NOW - 1, "dead since 2027"),
        (-1.0, "dead since 1969"),
        (NOW + 8 * 86400, "a life of 8 days"),
        (253402300799.0, "a life of 2"),
    ],
)
async def test_what_is_no_session_is_refused(expiration, says):
    """Dead credentials would be served as good ones; and a key with a made-up end, for ever."""
    with pytest.raises(Invalid, match=says):
        await obtain("deploy", Handing(replace(credentials(), expiration=expiration)), Clock(lambda: NOW))


@pytest.mark.parametrize("life", [1, 3600, 36 * 3600, 7 * 86400])
async def test_a_session_is_passed_on_as_it_is(life):
    held = credentials(now=NOW, life=life)
    assert await obtain("deploy", Handing(held), Clock(lambda: NOW)) is held


@pytest.mark.parametrize("source", ROLE_TABLES)
def test_every_source_is_one_module_that_says_what_it_follows(source):
    """`source = "x-y"` is in `x_y.py`, or in `source.py` of the package `x_y`."""
    module = _module(source)
    assert module.__name__.removesuffix(".source") == f"imds_proxy.sources.{source.replace('-', '_')}"
    assert list(inspect.signature(module.make).parameters) == ["role", "settings", "context"]
    assert len(module.__doc__.splitlines()) > 2


def test_the_sources_of_what_others_renew_say_so():
    """Each would be asked again at the half of what it happened to have left, and after a restart not at once."""
    kinds = {source: next(filter(None, map(_kind, vars(_module(source)).values()))) for source in ROLE_TABLES}
    passing = {source for source, kind in kinds.items() if kind.passes_on}
    assert passing == {"process", "file", "http", "ambient"}


def _module(source):
    return sys.modules[maker(SimpleNamespace(source=source)).__module__]


def _kind(value):
    return value if inspect.isclass(value) and issubclass(value, Source) and value is not Source else None


async def test_a_missing_extra_is_said_and_does_not_stop_the_other_roles(monkeypatch):
    """The daemon would not start."""
    for name in [name for name in sys.modules if name.startswith(("cryptography", "imds_proxy.sources."))]:
        if name != "imds_proxy.sources.interface":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    anywhere = "arn:aws:rolesanywhere:eu-west-1:123456789012"
    identity = "01234567-89ab-cdef-0123-456789abcdef"
    table = role_table(
        source="roles-anywhere",
        trust_anchor_arn=f"{anywhere}:trust-anchor/{identity}",
        profile_arn=f"{anywhere}:profile/{identity}",
        certificate="/none",
    )
    config = parse({"region": "eu-west-1", "roles": table}, "t")
    factory = SourceFactory(Clock())
    factory.prepare(config)
    with pytest.raises(Invalid, match="needs the Python package cryptography") as caught:
        await factory.make("deploy", config.roles["deploy"], lambda: None).fetch()
    assert caught.value.advice == f"{sys.executable} -m pip install 'imds-proxy[roles-anywhere]'"


def test_a_host_does_not_pay_for_a_source_that_it_does_not_use():
    """botocore is 11 MB and 300 ms."""
    program = """
import sys
from imds_proxy.host.clock import Clock
from imds_proxy.config.reader import parse
from imds_proxy.sources.factory import SourceFactory, maker
config = parse({"region": "eu-west-1", "roles": {"deploy": {"source": "file", "path": "/run/credentials"}}}, "t")
factory = SourceFactory(Clock())
factory.prepare(config)
factory.make("deploy", config.roles["deploy"], lambda: None)
print(sorted({"aiobotocore", "botocore", "aiohttp", "cryptography"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "[]\n"
