"""`[roles.NAME]` with `source = "http"` (config_http.py): what may be sent where."""

import pytest

from imds_proxy.config.http_role import is_private_channel, is_this_host
from imds_proxy.config.reader import parse
from imds_proxy.errors import ConfigError

URL = "https://credentials.example/role"


def role(**settings):
    settings = {"source": "http", "url": URL, **settings}
    return parse({"roles": {"deploy": settings}}, "t").roles["deploy"]


def mistake(**settings):
    with pytest.raises(ConfigError) as caught:
        role(**settings)
    (text,) = caught.value.mistakes
    return text


HERE = [
    "http://127.0.0.1:1338/",
    "http://127.9.9.9/",
    "http://localhost:80/",
    "http://LOCALHOST/",
    "http://[::1]:1338/",
    "http://169.254.169.254/",
    "http://169.254.170.2/role",
    "http://[fe80::1]/",
    "http://[fd00:ec2::254]/",
    "http://[fd00:ec2::23]/v1/credentials",
]
ELSEWHERE = [
    "http://credentials.example/",
    "http://10.0.0.1/",
    "http://[fd00::1]/",
    "http://localhost.example/",
    "http://127.0.0.1.example/",
    "http://0.0.0.0/",
    "http://2130706433/",
    "http://127.1/",
]


@pytest.mark.parametrize("url", HERE)
def test_plain_http_stays_on_this_host(url):
    assert is_this_host(url)
    assert is_private_channel(url)
    assert role(url=url).url == url


@pytest.mark.parametrize("url", ELSEWHERE)
def test_plain_http_goes_further_only_where_that_is_said(url):
    """A token on a network is everybody's token."""
    assert not is_this_host(url)
    assert "roles.deploy: url would send secrets in the clear" in mistake(url=url)
    assert role(url=url, allow_http=True).url == url
    assert is_private_channel(url.replace("http:", "https:"))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://credentials.example/", "expected an http:// or https:// URL"),
        ("credentials.example", "expected an http:// or https:// URL"),
        ("https://someone:hidden@credentials.example/", "put the secret into a file"),
        ("http://127.0.0.1@credentials.example/", "put the secret into a file"),
        ("http://127.0.0.1\\@credentials.example/", "put the secret into a file"),
        ("http://127.0.0.1#@credentials.example/", "percent-encoded"),
        ("https://credentials.example/a b", "percent-encoded"),
        ("https://credentials.example/a\nb", "http"),
        ("https://credentials.example/ü", "percent-encoded"),
        ("https://credentials.example:99999/", "port"),
        ("https://credentials.example:x/", "port"),
        ("https://:443/", "host"),
        ("https://[::1/", "host"),
    ],
)
def test_a_url_that_cannot_be_asked_is_a_mistake_of_the_config(url, words):
    """Found by `check`, and not by a renewal at night."""
    text = mistake(url=url)
    assert text.startswith("roles.deploy.url: ")
    assert words in text
    assert "hidden" not in text


def test_headers_that_may_be_sent():
    headers = {
        "x-amzn-iot-thingname": "press-7",
        "X-Vault-Namespace": "ns1/ns2",
        "X-Team": "build and run",
        "X-Empty": "",
    }
    assert role(headers=headers).headers == headers


@pytest.mark.parametrize(
    "name", ["Authorization", "authorization", "Proxy-Authorization", "Cookie", "X-Vault-Token", "X-Api-Key"]
)
def test_secrets_are_not_for_a_config(name):
    """A config file is in version control, and shows in `imds-proxy config`."""
    text = mistake(headers={name: "hidden"})
    assert text.startswith("roles.deploy.headers: ")
    assert "token_file" in text
    assert "hidden" not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Team", "a\r\nAuthorization: x"),
        ("X-Team", "a\nb"),
        ("X-Team", "a\x00b"),
        ("X-Team", "é"),
        ("X-Team", " a"),
        ("X-Team\r\nX", "a"),
        ("X Team", "a"),
        ("X-Team:", "a"),
        ("", "a"),
        ("Host", "a"),
        ("Content-Length", "7"),
        ("transfer-encoding", "chunked"),
        ("Connection", "keep-alive"),
        ("X-aws-ec2-metadata-token-ttl-seconds", "1"),
    ],
)
def test_headers_that_are_none_or_would_change_the_request(name, value):
    """Two lines in a value are two headers."""
    assert mistake(headers={name: value}).startswith("roles.deploy.headers: ")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"client_key": "/k"}, "client_key goes with client_certificate"),
        ({"url": "http://127.0.0.1/", "client_certificate": "/c"}, "are for an https:// url"),
        ({"url": "http://127.0.0.1/", "ca_bundle": "/c"}, "are for an https:// url"),
        ({"shape": "imds", "token_file": "/t"}, "takes no token_file"),
        ({"shape": "ecs"}, "container"),
        ({"timeout": "0s"}, "timeout"),
        ({"timeout": "6m"}, "timeout"),
        ({"token_file": "token"}, "absolute path"),
    ],
)
def test_settings_that_do_not_go_together(settings, words):
    """What would do nothing would be believed to do something."""
    assert words in mistake(**settings)
