"""Which Host and Origin the control plane serves."""

import pytest

from imds_proxy.admin.request_check import host_refusal, origin_refusal


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:9338",
        "127.0.0.1",
        "[::1]:9338",
        "[::1]",
        "192.0.2.7:9338",
        "localhost:9338",
        "LOCALHOST",
        "Metrics.example:9338",
    ],
)
def test_addresses_localhost_and_allowed_names_are_served(host):
    """A probe or a Prometheus that asks by the address would be refused."""
    assert host_refusal([host], ["metrics.EXAMPLE"], required=True) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:9338",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "",
        "localhost.",
        "[::1",
        "0x7f.1",
        "127.1",
    ],
)
def test_any_other_name_is_refused(host):
    """A web page reads role ARNs and error texts once its name in DNS points here."""
    assert "allowed_hosts" in (host_refusal([host], [], required=True) or "")


def test_there_is_exactly_one_host():
    """Of two the one that is looked at may not be the one that is meant."""
    assert host_refusal(["127.0.0.1", "evil.example"], [], required=True) is not None
    assert host_refusal([], [], required=True) is not None
    assert host_refusal([], [], required=False) is None


@pytest.mark.parametrize(
    ("origin", "site"),
    [
        (None, None),
        (None, "none"),
        (None, "same-origin"),
        ("http://127.0.0.1:9338", "same-origin"),
        ("http://127.0.0.1:9338", None),
    ],
)
def test_its_own_pages_are_served(origin, site):
    """The status page could not load what it shows."""
    assert origin_refusal(origin, site, "127.0.0.1:9338") is None


@pytest.mark.parametrize(
    ("origin", "site"),
    [
        (None, "cross-site"),
        (None, "same-site"),
        (None, ""),
        (None, "None"),
        ("null", None),
        ("null", "same-origin"),
        ("", None),
        ("https://evil.example", None),
        ("http://127.0.0.1:9339", "same-site"),
        ("http://127.0.0.1", None),
        ("http://127.0.0.1:9338@evil.example", None),
        ("http://[::1:9338", None),
        ("http://127.0.0.1:9338", "cross-site"),
    ],
)
def test_pages_of_others_are_not_served(origin, site):
    """Any web page could ask this host, and what it measures or loads tells it something."""
    assert origin_refusal(origin, site, "127.0.0.1:9338") is not None


def test_no_origin_fits_a_request_without_a_host():
    """`null` and an empty Host would be taken for the same."""
    assert origin_refusal("null", None, "") is not None
