"""What verbs make of answers that are not the daemon's: another service has the port, or a newer daemon answers."""

import http.server
import threading

import pytest

from imds_proxy.cli.main import main

ANSWERS = {
    "page": b"<html>\x1b[2J\n\nimds-proxy: forged \xff</html>",
    "nothing": b"",
    "list": b'["\\u001b[2J"]',
    "word": b'"x"',
    "other document": b'{"a": 1}',
    "deep": b"[" * 100_000,
    "token": b"a-token\x1b[2J\r\nHost: x",
}
VERBS = [
    ("status",),
    ("status", "--json"),
    ("env",),
    ("env", "--role", "b"),
    ("credential-process",),
    ("credential-process", "--role", "b"),
    ("exec", "--wait", "0s", "--role", "c", "true"),
    ("renew",),
]


@pytest.fixture
def service(tmp_path):
    """`service(status, body)` answers everything so; the config of a daemon that should be there."""
    running = []

    def start(status, body):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_PUT = do_POST = do_GET  # noqa: N815 - names of the library

            def do_HEAD(self):
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        running.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        path, listen = tmp_path / "config.toml", f'listen = "127.0.0.1:{server.server_port}"'
        listens = f'[metadata]\nlisten = ["127.0.0.1:{server.server_port}"]\n[admin]\n{listen}\n'
        role = 'role_arn = "arn:aws:iam::123456789012:role/x"\n'
        path.write_text(f'state_dir = "{tmp_path}"\n{listens}[roles.a]\n{role}')
        tokens = tmp_path / "tokens"
        tokens.mkdir(mode=0o700, exist_ok=True)
        (tokens / "b").write_text("a-token-of-nobody-that-is-in-no-other-test")
        return str(path)

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("body", ANSWERS.values(), ids=ANSWERS)
def test_an_odd_answer_is_no_defect_of_a_verb(service, capsys, monkeypatch, status, body):
    """It would be reported as one; and what it holds would be on the operator's terminal."""
    monkeypatch.setattr("imds_proxy.cli.daemon_client._PATIENCE", 0.0)
    config = service(status, body)
    for verb, *rest in VERBS:
        code = main([verb, "--config", config, *rest])
        printed = capsys.readouterr()
        assert "defect" not in printed.err, (verb, printed.err)
        assert code in {0, 1, 2}
        assert all(line.isprintable() for line in (printed.out + printed.err).split("\n")), verb
        assert "\nimds-proxy: forged" not in printed.err
        if verb not in {"env", "status"}:
            assert code, verb
            assert printed.err.startswith("imds-proxy: "), verb
