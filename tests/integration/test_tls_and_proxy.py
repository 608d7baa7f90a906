"""STS over TLS, and through a proxy, as a company's network has them."""

import ssl

import pytest
import trustme

from imds_proxy.demo.aws_double import free_port
from support.daemon import wait
from support.network import ConnectProxy, TlsRelay


@pytest.fixture
def company(tmp_path):
    """A CA of the company's own: its file, and a server's context with a certificate of it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "company-ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return str(tmp_path / "company-ca.pem"), context


@pytest.fixture
def sts_tls(aws, company):
    """STS behind that certificate."""
    with TlsRelay(aws.double.url, company[1]) as relay:
        yield relay


def config(aws, relay):
    return aws.config().replace(aws.double.url, relay.url)


def test_sts_is_reached_over_tls_with_the_companys_ca(aws, company, sts_tls, start_daemon):
    """A network that inspects TLS, or a private STS endpoint."""
    daemon = start_daemon(config=config(aws, sts_tls), environment=aws.environment | {"AWS_CA_BUNDLE": company[0]})
    assert daemon.credentials("deploy")["AccessKeyId"] in aws.double.issued()


def test_a_certificate_nobody_vouches_for_is_refused_with_advice(aws, sts_tls, start_daemon):
    """Whoever is in between would get a signed request, and hand out credentials of their own."""
    daemon = start_daemon(config=config(aws, sts_tls), ready=False)
    failure = daemon.failure()
    assert failure["outcome"] == "unreachable"
    assert "AWS_CA_BUNDLE" in failure["advice"]
    assert not aws.double.used("AssumeRole")


def test_a_ca_bundle_that_is_not_there_is_named(aws, sts_tls, start_daemon):
    """A typing mistake in a unit file, or a file of another user's."""
    environment = aws.environment | {"AWS_CA_BUNDLE": "/nonexistent/ca.pem"}
    failure = start_daemon(config=config(aws, sts_tls), environment=environment, ready=False).failure()
    assert failure["outcome"] == "invalid"
    assert "AWS_CA_BUNDLE" in failure["advice"]


def test_a_setting_that_breaks_one_role_leaves_the_others_alone(aws, start_daemon):
    """The daemon served nothing, for an address without a scheme."""
    broken = 'default = true\n[roles.broken]\nrole_arn = "arn:aws:iam::123456789012:role/Deploy"\n'
    environment = aws.environment | {"AWS_ENDPOINT_URL_STS": "localhost:4566"}
    daemon = start_daemon(config=aws.config(broken), environment=environment, ready=False)
    failure = daemon.failure("broken")
    assert failure["outcome"] == "invalid"
    assert 'AWS_ENDPOINT_URL_STS is "localhost:4566"' in failure["message"]
    assert "http://localhost:4566" in failure["advice"]
    wait(lambda: "credentials renewed" in daemon.log.read_text(), 10, "the other role")
    assert daemon.credentials("deploy")["AccessKeyId"] in aws.double.issued()


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
def test_sts_is_reached_through_the_proxy(aws, company, sts_tls, start_daemon, variable):
    """Hosts without a route of their own."""
    with ConnectProxy() as proxy:
        environment = aws.environment | {"AWS_CA_BUNDLE": company[0], variable: proxy.url}
        daemon = start_daemon(config=config(aws, sts_tls), environment=environment)
        assert proxy.tunnels[0] == f"127.0.0.1:{sts_tls.port}"
        assert daemon.credentials("deploy")["AccessKeyId"] in aws.double.issued()
    assert not proxy.others


def test_no_proxy_is_heeded(aws, company, sts_tls, start_daemon):
    """A private STS endpoint that the proxy does not know."""
    with ConnectProxy() as proxy:
        extra = {"AWS_CA_BUNDLE": company[0], "HTTPS_PROXY": proxy.url, "NO_PROXY": "127.0.0.1"}
        start_daemon(config=config(aws, sts_tls), environment=aws.environment | extra)
    assert not proxy.tunnels


def test_a_proxy_that_is_down_is_named(aws, company, sts_tls, start_daemon):
    """Everybody would look at AWS and at the firewall first."""
    proxy = f"http://127.0.0.1:{free_port()}"
    environment = aws.environment | {"AWS_CA_BUNDLE": company[0], "HTTPS_PROXY": proxy}
    failure = start_daemon(config=config(aws, sts_tls), environment=environment, ready=False).failure()
    assert failure["outcome"] == "unreachable"
    assert proxy.removeprefix("http://") in failure["message"]
    assert "HTTPS_PROXY" in failure["advice"]


def test_the_password_of_a_proxy_is_in_no_message(aws, company, sts_tls, start_daemon):
    """Proxy passwords are people's passwords."""
    proxy = f"http://proxyuser:proxypassword@127.0.0.1:{free_port()}"
    environment = aws.environment | {"AWS_CA_BUNDLE": company[0], "HTTPS_PROXY": proxy}
    daemon = start_daemon(config=config(aws, sts_tls), environment=environment, ready=False)
    daemon.failure()
    assert "proxypassword" not in str(daemon.status())
    assert "proxypassword" not in daemon.log.read_text()


def test_what_is_for_this_host_goes_through_no_proxy(aws, start_daemon):
    """A proxy of the network would read it in the clear, and look for 127.0.0.1 on its own host."""
    with ConnectProxy() as proxy:
        start_daemon(environment=aws.environment | {"HTTP_PROXY": proxy.url, "http_proxy": proxy.url})
    assert not proxy.others
    assert not proxy.tunnels


def test_the_daemons_own_verbs_never_go_through_a_proxy(aws, start_daemon):
    """On a host with HTTP_PROXY set, the proxy would be asked for this host's credentials."""
    daemon = start_daemon()
    with ConnectProxy() as proxy:
        environment = daemon.environment | {"HTTP_PROXY": proxy.url, "http_proxy": proxy.url, "ALL_PROXY": proxy.url}
        assert daemon.cli("status", env=environment).returncode == 0
        assert daemon.cli("credential-process", env=environment).returncode == 0
        listed = daemon.cli("exec", "--", "sh", "-c", "echo $NO_PROXY $no_proxy", env=environment)
        added = "169.254.169.254,169.254.170.2,169.254.170.23,[fd00:ec2::23],127.0.0.1,localhost"
        assert listed.stdout.count(added) == 2
    assert not proxy.others
    assert not proxy.tunnels
