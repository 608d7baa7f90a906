"""A company's CAs, the files of a control plane that speaks TLS, and clients of it."""

import datetime as dt
import http.client
import ssl
import time

import trustme

from support.daemon import DaemonProcess

NAMES = ("127.0.0.1", "localhost", "10.99.0.1")


class Pki:
    """Certificates in a folder.

    Args:
        folder: Where they are put.
    """

    def __init__(self, folder):
        self.folder = folder
        self.servers, self.clients, self.strangers = trustme.CA(), trustme.CA(), trustme.CA()
        """Who issues the server's certificates, those of its clients, and others'."""
        self.admin = {name: str(folder / f"{name}.pem") for name in ("certificate", "private_key", "client_ca")}
        """The keys of `[admin]`."""
        self.put_server()
        self.put("client_ca", self.clients.cert_pem.bytes())

    def put(self, name, content, mode=0o600):
        """A file as a tool that renews certificates leaves it: whole, at once."""
        new = self.folder / f"{name}.new"
        new.touch(mode)
        new.write_bytes(content)
        new.chmod(mode)
        new.rename(self.folder / f"{name}.pem")

    def put_server(self, *names, key=True):
        """Another certificate, and its key unless that comes later."""
        issued = self.servers.issue_cert(*(names or NAMES))
        self.put("certificate", b"".join(pem.bytes() for pem in issued.cert_chain_pems), 0o644)
        if key:
            self.put("private_key", issued.private_key_pem.bytes())
        return issued

    @property
    def certificate(self):
        """The certificate that is there now, as DER."""
        return ssl.PEM_cert_to_DER_cert((self.folder / "certificate.pem").read_text())

    def table(self, without=()):
        """The lines for `[admin]`."""
        return "".join(f'{name} = "{path}"\n' for name, path in self.admin.items() if name not in without)

    def context(self, issuer=None, **details):
        """What a client uses that trusts the server's CA, and shows a certificate where somebody issues it one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.servers.configure_trust(context)
        if issuer is not None:
            issuer.issue_cert("prometheus.example", **details).configure_cert(context)
        return context

    def prometheus(self):
        """Of a client with a good certificate."""
        return self.context(self.clients)

    def expired(self):
        """Of a client whose certificate has ended."""
        return self.context(self.clients, not_after=dt.datetime.now(dt.UTC) - dt.timedelta(days=1))


class TlsDaemon(DaemonProcess):
    """A daemon whose control plane is asked over TLS, by a client that trusts it.

    Args:
        context: Of that client.
    """

    context: ssl.SSLContext

    def _asked(self, path):
        return ask(self.admin_port, path, self.context)


def ask(port, path, context, host="127.0.0.1", headers=None):
    """Status, headers by lower-case name, body; raises OSError."""
    connection = http.client.HTTPSConnection(host, port, context=context, timeout=5)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def eventually(condition, seconds=10.0):
    """Until something holds that asks the daemon, which may refuse meanwhile."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)
