"""`imds-proxy webhook` as a process, and an API server that knows service accounts."""

import http.client
import json
import signal
import ssl
import subprocess
import sys
import threading
import time

from imds_proxy.demo.aws_double import free_port
from support.control_plane_tls import Pki
from support.daemon import START_TIME, clean_environment, wait
from support.kubernetes import ApiServer, response

TOKEN = "the-webhooks-own-token"


class AccountServer(ApiServer):
    """Answers for the service accounts in `accounts`: annotations by (namespace, name).

    `delay` in seconds; `status` other than 200 for everything; `most` is how many were asked at a time.
    """

    def __init__(self, folder, **options):
        super().__init__(None, folder, **options)
        self.accounts, self.delay, self.status, self.token = {}, 0.0, "200 OK", TOKEN
        self.most = self._now = 0
        self._lock = threading.Lock()
        self.interfere = self._answer

    @property
    def url(self):
        return f"https://127.0.0.1:{self.port}"

    def _answer(self, inside):
        head = self.requests[-1]
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(self.delay)
        with self._lock:
            self._now -= 1
        status, body = self.status, {"kind": "Status"}
        _, _, _, _, namespace, kind, name = head.split(" ")[1].split("/")
        assert kind == "serviceaccounts"
        if f"Authorization: Bearer {self.token}\r\n" not in head:
            status = "401 Unauthorized"
        elif (namespace, name) not in self.accounts:
            status = "404 Not Found"
        elif status == "200 OK":
            body = {"kind": "PartialObjectMetadata", "metadata": {"annotations": self.accounts[namespace, name]}}
        inside.sendall(response(json.dumps(body).encode(), status))


class WebhookProcess:
    """The webhook with files in a folder; `options` as on the command line, in place of those it has always."""

    def __init__(self, folder, server, *, token=TOKEN, **options):
        self.folder, self.port = folder, free_port()
        self.pki = Pki(folder)
        self.token_file, self.log = folder / "token", folder / "webhook.log"
        self.token_file.write_text(token)
        always = {
            "listen": f"127.0.0.1:{self.port}",
            "certificate": folder / "certificate.pem",
            "private_key": folder / "private_key.pem",
            "api_server": server.url,
            "token_file": self.token_file,
            "ca_bundle": server.ca_bundle,
            "log_level": "DEBUG",
        }
        self.options = [f"--{name.replace('_', '-')}={value}" for name, value in (always | options).items()]
        self.tls = ssl.create_default_context(cadata=self.pki.servers.cert_pem.bytes().decode())

    @property
    def url(self):
        return f"https://127.0.0.1:{self.port}/mutate"

    @property
    def ca_pem(self):
        return self.pki.servers.cert_pem.bytes()

    def start(self):
        command = [sys.executable, "-m", "imds_proxy", "webhook", *self.options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=clean_environment(), stdout=log, stderr=log)
        return self

    def wait_ready(self):
        wait(self.is_ready, START_TIME, lambda: f"ready; log:\n{self.log.read_text()}")
        return self

    def is_ready(self):
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.request("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def __enter__(self):
        return self.start().wait_ready()

    def __exit__(self, *_):
        self.stop()

    def stop(self, number=signal.SIGTERM, within=15):
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(within)
        finally:
            self.process.kill()

    def connect(self, tls=None, seconds=10):
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=tls or self.tls, timeout=seconds)

    def request(self, method, path, body=None, headers=None, tls=None):
        """Status and body."""
        connection = self.connect(tls)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def ask(self, review, tls=None, timeout="10s"):
        """The response to a review, which echoes its uid; `timeout` as an API server says it."""
        status, body = self.request(
            "POST", f"/mutate?timeout={timeout}", json.dumps(review), {"Content-Type": "application/json"}, tls
        )
        assert status == 200, body
        answer = json.loads(body)
        assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
        assert answer["response"]["uid"] == review["request"]["uid"]
        return answer["response"]

    def events(self, event=None):
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if event in {None, line["event"]}]

    def wait_for(self, event, count=1):
        return wait(
            lambda: self.events(event)[count - 1 : count], START_TIME, lambda: f"{event}: {self.log.read_text()}"
        )[0]
