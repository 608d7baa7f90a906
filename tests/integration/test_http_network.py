"""`source = "http"` over TLS, with certificates, and through proxies; and how `check` words it."""

import json
import ssl
from types import SimpleNamespace

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from imds_proxy.demo.aws_double import free_port
from imds_proxy.errors import Denied, Invalid, Unreachable
from imds_proxy.host import tls as tls_of_sources
from support.credential_service import ROLE_ARN, Proxy
from support.daemon import HOST
from support.http_source import SHAPES, clear_environment, fetch, no_secret_of, refused, serving, source

NAME = "credentials.internal.example"
"""A host that only a proxy finds."""


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    clear_environment(monkeypatch)


@pytest.fixture
def serve():
    with serving() as start:
        yield start


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    """A company's CA, a server's TLS, a host's certificate and key, all as files."""
    folder = tmp_path_factory.mktemp("pki")
    authority = trustme.CA()
    files = {name: folder / f"{name}.pem" for name in ("ca", "other_ca", "certificate", "key", "both", "other_key")}
    authority.cert_pem.write_to_path(str(files["ca"]))
    trustme.CA().cert_pem.write_to_path(str(files["other_ca"]))
    host = authority.issue_cert("host.example")
    host.cert_chain_pems[0].write_to_path(str(files["certificate"]))
    for name, content in (
        ("key", host.private_key_pem),
        ("both", host.private_key_and_cert_chain_pem),
        ("other_key", authority.issue_cert("other.example").private_key_pem),
    ):
        files[name].touch(0o600)
        content.write_to_path(str(files[name]))
    files["encrypted"] = folder / "encrypted.pem"
    files["encrypted"].touch(0o600)
    files["encrypted"].write_bytes(with_passphrase(host.private_key_pem.bytes()))
    paths = SimpleNamespace(**{name: str(path) for name, path in files.items()})
    return SimpleNamespace(authority=authority, folder=folder, **vars(paths))


@pytest.fixture
def tls(company):
    """A server's context with a certificate of the company's CA; asks for none unless told to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    company.authority.issue_cert("127.0.0.1", NAME).configure_cert(context)
    return context


@pytest.fixture
def mutual_tls(company, tls):
    """The same for those who show a certificate of that CA only."""
    tls.verify_mode = ssl.CERT_REQUIRED
    company.authority.configure_trust(tls)
    return tls


def with_passphrase(pem):
    key = serialization.load_pem_private_key(pem, None)
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"passphrase"))


@pytest.mark.parametrize("files", ["apart", "together"])
async def test_mutual_tls_with_the_companys_ca(serve, company, mutual_tls, files):
    """AWS IoT, and most internal services, know a host by its certificate."""
    service = serve("iot", tls=mutual_tls)
    shown = {"client_certificate": company.certificate, "client_key": company.key}
    shown = shown if files == "apart" else {"client_certificate": company.both}
    await fetch(url=service.url, shape="iot", ca_bundle=company.ca, **shown)
    assert len(service.sessions) == 1


async def test_the_ca_of_the_environment_is_taken_where_the_role_names_none(serve, company, tls, monkeypatch):
    monkeypatch.setenv("AWS_CA_BUNDLE", company.ca)
    service = serve("container", tls=tls)
    await fetch(url=service.url)
    assert "ca_bundle" in await refused(Unreachable, url=service.url, ca_bundle=company.other_ca)


async def test_a_certificate_nobody_vouches_for_is_refused(serve, company, tls):
    """Whoever is in between would get the token, and hand out credentials of their own."""
    service = serve("container", tls=tls)
    text = await refused(Unreachable, url=service.url)
    assert "its certificate is not accepted" in text
    assert "ca_bundle" in text
    other = service.url.replace("127.0.0.1", "localhost")
    assert "certificate is not valid for 'localhost'" in await refused(Unreachable, url=other, ca_bundle=company.ca)
    assert not service.requests


async def test_a_service_that_wants_a_certificate_and_gets_none_says_so(serve, company, mutual_tls):
    service = serve("iot", tls=mutual_tls)
    text = await refused(Unreachable, url=service.url, shape="iot", ca_bundle=company.ca)
    assert "a client certificate" in text


async def test_a_certificate_that_is_refused_is_named(serve, company, mutual_tls):
    iot = serve("iot", tls=mutual_tls, expect=("x-amzn-iot-thingname", "press-7"))
    text = await refused(Denied, url=iot.url, shape="iot", ca_bundle=company.ca, client_certificate=company.both)
    assert f"is {company.both} the right certificate" in text


async def test_tls_where_none_is_spoken_and_the_other_way_round(serve, tls):
    plain, secure = serve("container"), serve("container", tls=tls)
    assert "TLS failed" in await refused(Unreachable, url=plain.url.replace("http:", "https:"))
    assert "it may want TLS" in await refused(Unreachable, url=secure.url.replace("https:", "http:"))


async def test_files_of_tls_that_cannot_be_used_are_named(company, tmp_path):
    """With three files in a table, "PEM lib" says nothing."""
    url = f"https://127.0.0.1:{free_port()}/"
    missing, rubbish, open_key = tmp_path / "missing.pem", tmp_path / "rubbish.pem", tmp_path / "open.pem"
    rubbish.write_text("rubbish")
    rubbish.chmod(0o600)
    open_key.write_bytes(b"")
    open_key.chmod(0o644)
    certificate, key = company.certificate, company.key
    for words, files in (
        (f"CA bundle {missing} cannot be used: No such file", {"ca_bundle": missing}),
        (f"CA bundle {rubbish} cannot be used: it holds no CA", {"ca_bundle": rubbish}),
        (f"client certificate {missing} cannot be read", {"client_certificate": missing, "client_key": key}),
        (f"client key {missing} cannot be read", {"client_certificate": certificate, "client_key": missing}),
        (f"key {rubbish} cannot be used: no PEM", {"client_certificate": certificate, "client_key": rubbish}),
        ("cannot be used: another's key", {"client_certificate": certificate, "client_key": company.other_key}),
        ("cannot be used: its key is encrypted", {"client_certificate": certificate, "client_key": company.encrypted}),
        (f"chmod 600 {open_key}", {"client_certificate": certificate, "client_key": open_key}),
        (f"client certificate {open_key} can be read", {"client_certificate": open_key}),
    ):
        assert words in await refused(Invalid, url=url, **{name: str(path) for name, path in files.items()})


async def test_a_certificate_that_was_replaced_is_shown_the_next_time(serve, company, mutual_tls, tmp_path):
    """Host certificates live for days."""
    shown, service = tmp_path / "host.pem", serve("iot", tls=mutual_tls)
    shown.touch(0o600)
    trustme.CA().issue_cert("host.example").private_key_and_cert_chain_pem.write_to_path(str(shown))
    one = source(url=service.url, shape="iot", ca_bundle=company.ca, client_certificate=str(shown))
    with pytest.raises(Unreachable):
        await one.fetch()
    company.authority.issue_cert("host.example").private_key_and_cert_chain_pem.write_to_path(str(shown))
    await one.fetch()


async def test_what_is_shown_is_what_was_found_to_be_private(serve, company, mutual_tls, tmp_path, monkeypatch):
    """Who can swap the file after the look at it would have another key used, and see by the answer what it fits."""
    shown, service = tmp_path / "host.pem", serve("iot", tls=mutual_tls)
    shown.touch(0o600)
    company.authority.issue_cert("host.example").private_key_and_cert_chain_pem.write_to_path(str(shown))
    real = tls_of_sources.read_file

    def read_and_swap(*arguments, **options):
        content = real(*arguments, **options)
        shown.write_bytes(b"another")
        return content

    monkeypatch.setattr(tls_of_sources, "read_file", read_and_swap)
    await fetch(url=service.url, shape="iot", ca_bundle=company.ca, client_certificate=str(shown))
    assert len(service.sessions) == 1


async def test_a_service_beyond_is_asked_through_the_proxy_with_its_login(serve, company, tls, monkeypatch):
    service = serve("container", tls=tls)
    with Proxy(service.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://someone:pass%40word@{proxy.address}/")
        await fetch(url=f"https://{NAME}/role", ca_bundle=company.ca)
        assert proxy.asked == [f"CONNECT {NAME}:443"]
        assert proxy.logins == ["Basic c29tZW9uZTpwYXNzQHdvcmQ="]
    assert "proxy-authorization" not in service.requests[0].headers


@pytest.mark.parametrize(
    ("status", "words"), [(403, "the proxy refuses (403)"), (407, "it wants a login"), (502, "refuses (502)")]
)
async def test_a_proxy_that_refuses_is_named_without_its_password(monkeypatch, status, words):
    """Everybody would look at the service and at the firewall first."""
    with Proxy(status=status) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://someone:password@{proxy.address}")
        text = await refused(Unreachable, url=f"https://{NAME}/role")
    assert words in text
    assert f"https://{NAME}/role through proxy http://{proxy.address}: " in text
    assert "NO_PROXY" in text
    assert "password" not in text
    assert "someone" not in text


async def test_a_service_that_refuses_through_a_proxy_is_told_from_the_proxy(serve, company, tls, monkeypatch):
    service = serve("container", tls=tls, expect=("authorization", "right"))
    with Proxy(service.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.address)  # curl takes it without a scheme, and so do the AWS SDKs
        text = await refused(Denied, url=f"https://{NAME}/role", ca_bundle=company.ca)
    assert f"through proxy http://{proxy.address} answered 403" in text


async def test_a_proxy_that_is_down_or_is_none_is_said(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://someone:password@127.0.0.1:{free_port()}")
    assert "the proxy cannot be reached" in await refused(Unreachable, url=f"https://{NAME}/role")
    for nonsense in ("socks5://someone:password@127.0.0.1:1", "http://someone:password@127.0.0.1:99999", "http://"):
        monkeypatch.setenv("HTTPS_PROXY", nonsense)
        text = await refused(Invalid, url=f"https://{NAME}/role")
        assert "HTTPS_PROXY names no HTTP proxy" in text
        assert "password" not in text


@pytest.mark.parametrize("shape", SHAPES)
async def test_no_proxy_is_asked_for_what_is_on_this_host(serve, monkeypatch, shape):
    """A company's proxy would be asked for this host's credentials, in the clear."""
    service = serve(shape)
    with Proxy() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://{proxy.address}")
        await fetch(url=service.url, shape=shape)
        await fetch(url=service.url.replace("127.0.0.1", "localhost"), shape=shape)
        assert not proxy.asked


async def test_plain_http_that_was_allowed_goes_through_its_proxy_and_no_proxy_is_heeded(monkeypatch):
    with Proxy(status=407) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.address}")
        text = await refused(Unreachable, url=f"http://{NAME}/role", allow_http=True)
        assert "HTTP_PROXY" in text
        assert proxy.asked == [f"GET http://{NAME}/role"]
        monkeypatch.setenv("NO_PROXY", ".example")
        assert "no connection" in await refused(Unreachable, url=f"http://{NAME}/role", allow_http=True)
        assert len(proxy.asked) == 1


def test_check_says_what_is_wrong_in_the_operators_words(start_daemon, serve, company, tls, tmp_path):
    """One role for each thing that goes wrong on the first day."""
    token = tmp_path / "token"
    token.write_text("wrong-token-of-mine")
    secure, strict, other = serve("container", tls=tls), serve("vault", expect=("x-vault-token", "right")), serve("iot")
    good = serve("container")
    with Proxy() as proxy:
        roles = {
            "good": {"url": good.url, "role_arn": ROLE_ARN},
            "proxy": {"url": f"https://{NAME}/role", "ca_bundle": company.ca},
            "ca": {"url": secure.url, "ca_bundle": company.other_ca},
            "denied": {"url": strict.url, "shape": "vault", "token_file": str(token)},
            "shape": {"url": other.url},
        }
        config = HOST + "".join(role_table(name, default=name == "good", **each) for name, each in roles.items())
        environment = {"HTTPS_PROXY": f"http://someone:password@{proxy.address}"}
        daemon = start_daemon(config=config, environment=environment, ready=False)
        done = daemon.cli("check")
    assert done.returncode == 1
    said = dict(line.split(None, 1) for line in done.stdout.splitlines()[1:] if not line.startswith(" "))
    assert said["good"].startswith("ok: ")
    assert said["proxy"].startswith(
        f'unreachable: role "proxy": https://{NAME}/role through proxy http://{proxy.address}'
    )
    assert "the proxy refuses (403)" in said["proxy"]
    assert said["ca"].startswith('unreachable: role "ca": ')
    assert said["denied"].startswith('denied: role "denied": ')
    assert "this is the iot document" in said["shape"]
    for words in ("NO_PROXY", "set ca_bundle", f"is the token in {token} the right one", 'set shape = "iot"'):
        assert words in done.stdout
    for secret in ("password", "wrong-token-of-mine"):
        assert secret not in done.stdout + done.stderr
    assert all(no_secret_of(service, done.stdout + done.stderr) for service in (good, secure, strict, other))


def role_table(name, **settings):
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    return f'[roles.{name}]\nsource = "http"\n{lines}'
