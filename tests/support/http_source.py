"""A role with `source = "http"`, asked in the process of the test; and what its tests share."""

from contextlib import ExitStack, contextmanager

import pytest

from imds_proxy.config.http_role import HttpConfig
from imds_proxy.errors import SourceError
from imds_proxy.host.clock import Clock
from imds_proxy.sources import obtain
from imds_proxy.sources.http.source import make
from imds_proxy.sources.interface import Context
from support.credential_service import CredentialService

SHAPES = ("container", "imds", "process", "iot", "vault")


@contextmanager
def serving():
    """`start(shape, **options)`: a running `CredentialService`, until the end."""
    with ExitStack() as running:
        yield lambda *arguments, **options: running.enter_context(CredentialService(*arguments, **options))


def source(clock=None, **settings):
    context = Context(clock or Clock(), lambda: None, None, lambda: None)
    return make("deploy", HttpConfig(source="http", **settings), context)


async def fetch(**settings):
    clock = Clock()
    return await obtain("deploy", source(clock, **settings), clock)


async def refused(kind, **settings):
    """Message and advice of the error of exactly that kind."""
    with pytest.raises(SourceError) as caught:
        await fetch(**settings)
    assert type(caught.value) is kind, caught.value.message
    assert caught.value.message.startswith('role "deploy": ')
    assert caught.value.advice
    return f"{caught.value.message} → {caught.value.advice}"


def no_secret_of(service, text):
    return not [secret for session in service.sessions for secret in session.secrets if secret in text]


def always(*pieces):
    return lambda _: pieces


def clear_environment(monkeypatch) -> None:
    """No proxy and no CA of whoever runs the tests."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
