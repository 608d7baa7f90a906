"""How long a service asks us to wait (host/retry_after.py), from its answer to the error that the keeper sees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.aws.session import AwsChain
from imds_proxy.aws.sts_caller import FromChain
from imds_proxy.config.roles import AssumeRoleConfig
from imds_proxy.errors import Throttled
from imds_proxy.host.clock import Clock
from imds_proxy.host.retry_after import retry_after
from imds_proxy.sources.assume_role import AssumeRole
from support.aws import sts_error
from support.credential_service import response
from support.http_source import clear_environment, serving, source

MONDAY, LATER = "Mon, 30 Nov 2026 08:00:00 GMT", "Mon, 30 Nov 2026 08:01:30 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "120"}, 120),
        ({"retry-after": " 7 "}, 7),
        ({"retry-after": LATER, "date": MONDAY}, 90),
        ({"retry-after": MONDAY, "date": LATER}, 0),
        ({"retry-after": LATER}, 0),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "1e3"}, 0),
        ({"retry-after": "9" * 5000}, 0),
        ({"retry-after": "soon", "date": MONDAY}, 0),
    ],
)
def test_seconds_and_dates_are_read(headers, seconds):
    assert retry_after(headers) == seconds


_DATES = st.from_regex(r"[A-Za-z]{0,4},? ?\d{0,6} [A-Za-z]{0,5} \d{0,6} \d{0,3}:\d{0,3}:?\d{0,6} [+-]?[A-Z0-9]{0,9}")


@given(st.one_of(st.text(), _DATES), st.one_of(st.text(), _DATES))
def test_nothing_that_a_service_says_is_more_than_no_answer(asked, date):
    """An odd header would end as a defect, in place of the refusal."""
    assert retry_after({"retry-after": asked, "date": date}) >= 0
    assert retry_after({"retry-after": LATER, "date": date}) >= 0


async def test_sts_is_asked_again_no_sooner_than_it_says(aws, monkeypatch):
    """Whoever is throttled and calls again at once is throttled for longer."""
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)

    def throttled(_):
        answer = sts_error("Throttling", "Rate exceeded")
        answer.headers["Retry-After"] = "77"
        return answer

    aws.double.interfere = throttled
    settings = {"role_arn": aws.role_arn, "session_name": "web1", "sts_endpoint": aws.double.url}
    options = AssumeRoleConfig.model_validate(settings)
    role = AssumeRole("deploy", options, FromChain(None), AwsChain(), "eu-west-1", Clock())
    with pytest.raises(Throttled) as caught:
        await role.fetch()
    assert caught.value.retry_after == 77


async def test_so_is_a_service_over_http(monkeypatch):
    clear_environment(monkeypatch)
    with serving() as start:
        service = start("process")
        service.interfere = lambda _: [response(b"{}", 429, retry_after=33)]
        with pytest.raises(Throttled) as caught:
            await source(url=service.url, shape="process").fetch()
    assert caught.value.retry_after == 33
