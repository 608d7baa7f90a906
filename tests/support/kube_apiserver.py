"""A real cluster's API server, where the programs are at hand: KUBE_APISERVER and ETCD say where.

The one is `go build k8s.io/kubernetes/cmd/kube-apiserver` in a module that requires k8s.io/kubernetes v1.N and replaces
what that requires as v0.0.0 by v0.N; the other is in Debian's etcd-server.
"""

import json
import os
import ssl
import subprocess
import time
import urllib.request

import trustme
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from imds_proxy.demo.aws_double import free_port
from support.kubernetes import ISSUER

PROGRAMS = ("KUBE_APISERVER", "ETCD")
ADMIN = "an-admins-own-static-token"
MAKE = {"rsa": lambda: rsa.generate_private_key(65537, 2048), "ec": lambda: ec.generate_private_key(ec.SECP256R1())}


class KubeApiServer:
    """kube-apiserver on an etcd of its own; it signs with the last of its keys and publishes all of them."""

    def __init__(self, folder):
        self.folder, self._keys = folder, []
        self._port, self._etcd_ports = free_port(), (free_port(), free_port())
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        self.ca_bundle = str(folder / "ca.pem")
        authority.cert_pem.write_to_path(self.ca_bundle)
        certificate.private_key_pem.write_to_path(folder / "tls.key")
        certificate.cert_chain_pems[0].write_to_path(folder / "tls.crt")
        (folder / "static.csv").write_text(f"{ADMIN},admin,admin,system:masters\n")
        self._tls = ssl.create_default_context(cafile=self.ca_bundle)
        self._etcd = self._server = None

    @property
    def keys_url(self):
        return f"https://127.0.0.1:{self._port}/openid/v1/jwks"

    def __enter__(self):
        clients, peers = (f"http://127.0.0.1:{port}" for port in self._etcd_ports)
        options = ["--listen-client-urls", clients, "--advertise-client-urls", clients, "--listen-peer-urls", peers]
        self._etcd = self._start("etcd", os.environ["ETCD"], "--data-dir", self.folder / "etcd", *options)
        self.sign_with("rsa")
        return self

    def __exit__(self, *_):
        for process in (self._server, self._etcd):
            if process is not None:
                process.terminate()
                process.wait(30)

    def sign_with(self, kind):
        """Take a new key, with a restart, as it is done on control planes."""
        path = self.folder / f"{len(self._keys)}-{kind}.key"
        pem = MAKE[kind]().private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        path.write_bytes(pem)
        self._keys.append(path)
        if self._server is not None:
            self._server.terminate()
            self._server.wait(30)
        self._server = self._start(
            "kube-apiserver",
            os.environ["KUBE_APISERVER"],
            f"--etcd-servers=http://127.0.0.1:{self._etcd_ports[0]}",
            f"--secure-port={self._port}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self.folder}",
            f"--tls-cert-file={self.folder / 'tls.crt'}",
            f"--tls-private-key-file={self.folder / 'tls.key'}",
            f"--token-auth-file={self.folder / 'static.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--disable-admission-plugins=ServiceAccount",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-signing-key-file={path}",
            *[f"--service-account-key-file={key}" for key in self._keys],
        )
        self._wait_ready()

    def make_pod(self, namespace, account, pod):
        """A pod, in its namespace and with its account; its uid."""
        self.call("namespaces", metadata={"name": namespace})
        self.call(f"namespaces/{namespace}/serviceaccounts", metadata={"name": account})
        spec = {"serviceAccountName": account, "containers": [{"name": "main", "image": "none"}]}
        return self.call(f"namespaces/{namespace}/pods", metadata={"name": pod}, spec=spec)["metadata"]["uid"]

    def token(self, namespace, account, *audiences, pod=None):
        """As a kubelet asks for it, to project it into a pod (TokenRequest)."""
        spec = {"audiences": audiences, "expirationSeconds": 3600}
        if pod is not None:
            spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": pod}
        return self.call(f"namespaces/{namespace}/serviceaccounts/{account}/token", spec=spec)["status"]["token"]

    def call(self, path, **body):
        request = urllib.request.Request(
            f"https://127.0.0.1:{self._port}/api/v1/{path}",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"},
        )
        with self._open(request) as answer:
            return json.load(answer)

    def _wait_ready(self):
        request = urllib.request.Request(
            f"https://127.0.0.1:{self._port}/readyz", headers={"Authorization": f"Bearer {ADMIN}"}
        )
        ends = time.monotonic() + 90
        while time.monotonic() < ends:
            try:
                self._open(request).close()
            except OSError:
                assert self._server.poll() is None, (self.folder / "kube-apiserver.log").read_text()[-2000:]
                time.sleep(0.2)
            else:
                return
        raise TimeoutError("kube-apiserver is not ready after 90 s")

    def _open(self, request):
        direct = urllib.request.ProxyHandler({})
        opener = urllib.request.build_opener(direct, urllib.request.HTTPSHandler(context=self._tls))
        return opener.open(request, timeout=10)

    def _start(self, name, *command):
        with (self.folder / f"{name}.log").open("a") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
