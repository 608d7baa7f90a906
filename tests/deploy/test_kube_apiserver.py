"""Tokens and keys of a real kube-apiserver (support/kube_apiserver.py)."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from imds_proxy.callers.caller import ServiceAccount
from imds_proxy.callers.kubernetes import jwks_refresh
from imds_proxy.callers.kubernetes.verifier import KeysMissing, NotAccepted, ServiceAccounts
from imds_proxy.config.grants import EKS_AUDIENCE, ServiceAccountsConfig
from support.clients import on, run
from support.daemon import request
from support.http_source import clear_environment
from support.kube_apiserver import KubeApiServer
from support.kubernetes import ISSUER, TABLES, by_pod

STS = "sts.amazonaws.com"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with KubeApiServer(tmp_path_factory.mktemp("cluster")) as running:
        running.pod_uid = running.make_pod("shop", "api", "api-7d9f")
        running.make_pod("aws", "imds-proxy", "imds-proxy-0")
        yield running


@pytest.fixture
async def accounts(cluster, tmp_path, monkeypatch):
    """Asks the API server with an account of its own, which has no permission that not every account has."""
    clear_environment(monkeypatch)
    (tmp_path / "token").write_text(cluster.token("aws", "imds-proxy"))
    settings = ServiceAccountsConfig(
        issuer=ISSUER, jwks_url=cluster.keys_url, ca_bundle=cluster.ca_bundle, token_file=str(tmp_path / "token")
    )
    subject = ServiceAccounts()
    await subject.follow(SimpleNamespace(service_accounts=settings))
    yield subject
    await subject.close()


async def verified(accounts, token):
    async with asyncio.timeout(20):
        while True:
            try:
                return accounts.verify(token, time.time())
            except KeysMissing:
                await asyncio.sleep(0.05)


async def test_the_token_in_a_pod_says_whose_it_is(accounts, cluster):
    token = cluster.token("shop", "api", EKS_AUDIENCE, pod="api-7d9f")
    assert await verified(accounts, token) == ServiceAccount("shop", "api", "api-7d9f", cluster.pod_uid)


async def test_a_token_of_no_pod_is_its_accounts(accounts, cluster):
    """What `kubectl create token --audience` prints."""
    token = cluster.token("shop", "api", "vault", EKS_AUDIENCE)
    assert await verified(accounts, token) == ServiceAccount("shop", "api")


async def test_a_token_for_the_cluster_itself_opens_nothing(accounts, cluster):
    """Each pod has one of those besides."""
    with pytest.raises(NotAccepted, match="audience"):
        await verified(accounts, cluster.token("shop", "api"))


def test_an_sdk_in_a_pod_has_the_role_of_its_service_account(aws, start_daemon, cluster, tmp_path):
    (tmp_path / "own").write_text(cluster.token("aws", "imds-proxy"))
    (tmp_path / "pods").write_text(cluster.token("shop", "api", EKS_AUDIENCE, pod="api-7d9f"))
    tables = TABLES.format(issuer=ISSUER, url=cluster.keys_url, ca_bundle=cluster.ca_bundle)
    daemon = start_daemon(f'{tables}token_file = "{tmp_path / "own"}"\n')
    ended = run("boto3", on(aws.double.url) | by_pod(daemon, tmp_path / "pods"), "once")
    assert ended.status == 0, ended.errors
    others = cluster.token("aws", "imds-proxy", EKS_AUDIENCE)
    assert request(f"{daemon.endpoint}v1/credentials", headers={"Authorization": others})[0] == 403


@pytest.mark.parametrize("audiences", [(EKS_AUDIENCE,), (STS,), (EKS_AUDIENCE, STS)], ids="-".join)
def test_an_sdk_in_a_pod_has_the_role_of_its_annotation(aws, start_daemon, cluster, tmp_path, audiences):
    """With a token for either audience, as EKS Pod Identity and web identity project them."""
    (tmp_path / "own").write_text(cluster.token("aws", "imds-proxy"))
    (tmp_path / "pods").write_text(cluster.token("shop", "api", *audiences, pod="api-7d9f"))
    tables = TABLES.format(issuer=ISSUER, url=cluster.keys_url, ca_bundle=cluster.ca_bundle)
    daemon = start_daemon(f'{tables}token_file = "{tmp_path / "own"}"\naudience = ["{EKS_AUDIENCE}", "{STS}"]\n')
    pod = by_pod(daemon, tmp_path / "pods")
    for asked, status in ((aws.role_arn, 0), ("deploy", 0), (f"{aws.role_arn}2", 1)):
        uri = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{daemon.endpoint}v1/credentials/{asked}"}
        ended = run("boto3", on(aws.double.url) | pod | uri, "once")
        assert (ended.status != 0) == status, ended.errors
    refused = daemon.wait_for_event("credentials refused")
    assert refused["reason"] == f"asks for {aws.role_arn}2; granted: deploy"


async def test_a_key_that_the_control_plane_has_just_taken_is_known(accounts, cluster, monkeypatch):
    monkeypatch.setattr(jwks_refresh, "APART", 1.0)
    old = cluster.token("shop", "api", EKS_AUDIENCE)
    await verified(accounts, old)
    await asyncio.to_thread(cluster.sign_with, "ec")
    new = cluster.token("shop", "api", EKS_AUDIENCE)
    assert (await verified(accounts, new), await verified(accounts, old)) == (ServiceAccount("shop", "api"),) * 2
