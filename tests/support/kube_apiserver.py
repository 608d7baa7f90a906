"""A real cluster's API server: as `make cluster` builds it, or where KUBE_APISERVER and ETCD say.

There is no controller manager, no scheduler and no kubelet: what these make (the service account `default` of a
namespace, endpoints, running containers) is not there unless a test makes it.
"""

import json
import os
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from imds_proxy.demo.aws_double import free_port
from support.kubernetes import ISSUER

BUILT = Path(os.environ.get("IMDS_PROXY_CLUSTER") or Path(__file__).parents[2] / ".cache/cluster")
ADMIN = "an-admins-own-static-token"
MAKE = {"rsa": lambda: rsa.generate_private_key(65537, 2048), "ec": lambda: ec.generate_private_key(ec.SECP256R1())}


def program(name):
    """kube-apiserver or etcd: as the environment says, or as `make cluster` has built it."""
    found = Path(os.environ.get(name.upper().replace("-", "_")) or BUILT / name)
    assert found.exists(), f"{found} is missing: run `make cluster`"
    return found


class RefusedByServer(Exception):  # noqa: N818 - what happened
    """The API server answered with an error; `warnings` as kubectl shows them."""

    def __init__(self, status, document, warnings):
        super().__init__(f"{status}: {document.get('message')}")
        self.status, self.document, self.warnings = status, document, warnings


class KubeApiServer:
    """kube-apiserver on an etcd of its own; it signs with the last of its keys and publishes all of them.

    `admission`: with the default admission plugins, ServiceAccount among them: a pod's account has to exist.
    `options` are further ones of kube-apiserver.
    """

    def __init__(self, folder, *, admission=False, options=()):
        self.folder, self._keys = folder, []
        self._options = [*options, *([] if admission else ["--disable-admission-plugins=ServiceAccount"])]
        self.warnings = []
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
    def url(self):
        return f"https://127.0.0.1:{self._port}"

    @property
    def keys_url(self):
        return f"{self.url}/openid/v1/jwks"

    def __enter__(self):
        clients, peers = (f"http://127.0.0.1:{port}" for port in self._etcd_ports)
        options = ["--listen-client-urls", clients, "--advertise-client-urls", clients, "--listen-peer-urls", peers]
        self._etcd = self._start("etcd", program("etcd"), "--data-dir", self.folder / "etcd", *options)
        try:
            self.sign_with("rsa")
        except BaseException:
            self.__exit__()
            raise
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
            program("kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{self._etcd_ports[0]}",
            f"--secure-port={self._port}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self.folder}",
            f"--tls-cert-file={self.folder / 'tls.crt'}",
            f"--tls-private-key-file={self.folder / 'tls.key'}",
            f"--token-auth-file={self.folder / 'static.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-signing-key-file={path}",
            *[f"--service-account-key-file={key}" for key in self._keys],
            *self._options,
        )
        self._wait_ready()

    def make_pod(self, namespace, account, pod):
        """A pod, in its namespace and with its account; its uid."""
        self.call("namespaces", metadata={"name": namespace})
        self.call(f"namespaces/{namespace}/serviceaccounts", metadata={"name": account})
        spec = {"serviceAccountName": account, "containers": [{"name": "main", "image": "none"}]}
        return self.call(f"namespaces/{namespace}/pods", metadata={"name": pod}, spec=spec)["metadata"]["uid"]

    def token(self, namespace, account, *audiences, pod=None, expiration=3600):
        """As a kubelet asks for it, to project it into a pod (TokenRequest)."""
        spec = {"audiences": audiences, "expirationSeconds": expiration}
        if pod is not None:
            spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": pod}
        return self.call(f"namespaces/{namespace}/serviceaccounts/{account}/token", spec=spec)["status"]["token"]

    def call(self, path, **body):
        """Make something of the core API: `call("namespaces", metadata={"name": "shop"})`."""
        return self.ask("POST", f"/api/v1/{path}", body)

    def make_namespace(self, name):
        """A namespace with its service account `default`, which no controller makes here."""
        self.call("namespaces", metadata={"name": name})
        self.call(f"namespaces/{name}/serviceaccounts", metadata={"name": "default"})

    def ask(self, method, path, body=None, token=ADMIN):
        """What the API server answers, as JSON; its warnings are in `warnings`. Raises RefusedByServer."""
        headers = {"Authorization": f"Bearer {token}"}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json" if method == "PATCH" else "application/json"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        try:
            with self._open(request) as answer:
                self.warnings = answer.headers.get_all("Warning") or []
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                self.warnings = error.headers.get_all("Warning") or []
                raise RefusedByServer(error.code, json.load(error), self.warnings) from None

    def kubeconfig(self):
        """A file for kubectl and helm, as the administrator."""
        path = self.folder / "kubeconfig"
        cluster = {"server": self.url, "certificate-authority": self.ca_bundle}
        context = {"cluster": "test", "user": "admin"}
        config = {"apiVersion": "v1", "kind": "Config", "current-context": "test"}
        config |= {
            "clusters": [{"name": "test", "cluster": cluster}],
            "contexts": [{"name": "test", "context": context}],
        }
        config["users"] = [{"name": "admin", "user": {"token": ADMIN}}]
        path.write_text(json.dumps(config))
        return path

    def _wait_ready(self):
        request = urllib.request.Request(f"{self.url}/readyz", headers={"Authorization": f"Bearer {ADMIN}"})
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
