"""`source = "process"`: running a command and reading what it prints (host/run_command.py, sources/process.py)."""

import asyncio
import contextlib
import io
import json
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvloop

from imds_proxy.config.roles import ProcessConfig
from imds_proxy.errors import Denied, Invalid, Unreachable
from imds_proxy.host.clock import Clock
from imds_proxy.host.command_start import helper_environment
from imds_proxy.host.run_command import _Pipe, run_command
from imds_proxy.sources import Context, obtain
from imds_proxy.sources.process import make
from support.processes import alive

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
OF_THE_DAEMON = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "STATE_DIRECTORY",
    "RUNTIME_DIRECTORY",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
)
ARN = "arn:aws:iam::123456789012:role/Deploy"


@pytest.fixture(params=LOOPS)
def run(request):
    """Runs a coroutine on the loop of `check`, and on that of the daemon."""
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        yield runner.run


def command(*arguments, timeout=10.0):
    return run_command("deploy", arguments, timeout=timeout, what="command")


def shell(script, *, timeout=10.0):
    return command("/bin/sh", "-c", script, timeout=timeout)


def python(program, *arguments, timeout=10.0):
    return command(sys.executable, "-c", program, *arguments, timeout=timeout)


def failure(run, error, work):
    with pytest.raises(error) as caught:
        run(work)
    assert caught.value.message.startswith('role "deploy": command ')
    assert caught.value.advice
    return caught.value


def assert_gone(pids):
    deadline = time.monotonic() + 2
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, f"still there: {[pid for pid in pids if alive(pid)]}"
        time.sleep(0.01)


# What a helper gets


def test_arguments_arrive_as_they_are(run):
    """A shell in between would run what an external id happens to hold."""
    wanted = ["a b", "'", '"', "$(touch /tmp/x)", "`id`", "$HOME", "*", "~", "", ";", "ä", "a\nb", "--", "\\"]
    assert json.loads(run(python("import json, sys; print(json.dumps(sys.argv[1:]))", *wanted))) == wanted


def test_a_program_is_found_by_the_path(run):
    """Profiles of AWS name helpers without their folder."""
    assert run(command("echo", "x")) == b"x\n"


@contextlib.contextmanager
def standard_input(content):
    """Something to read for this process, and for those it starts without a word on that."""
    reader, writer = os.pipe()
    before = os.dup(0)
    os.write(writer, content)
    os.close(writer)
    os.dup2(reader, 0)
    os.close(reader)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


def test_it_has_nothing_to_read_and_no_terminal(run):
    """A helper that asks for a password would wait until its time limit."""
    with standard_input(b"the daemon's"):
        assert run(python("import sys; print(repr(sys.stdin.read()))")) == b"''\n"
    assert run(shell("tty || true")) == b"not a tty\n"
    assert run(shell("(: < /dev/tty) 2>/dev/null || echo none")) == b"none\n"


def test_it_has_no_file_of_the_daemon(run):
    """A helper could take the listeners' connections, or read the key of the tokens."""
    secret = os.open("/etc/passwd", os.O_RDONLY)
    found = run(python("import os; print([fd for fd in range(3, 200) if os.path.exists(f'/proc/self/fd/{fd}')])"))
    os.close(secret)
    assert found in {b"[]\n", b"[3]\n"}  # 3: of the program's own start


def test_its_outputs_can_be_opened_by_name(run):
    """`> /dev/stderr` of a shell script fails on a socket, which uvloop would give it."""
    assert run(shell("echo said > /dev/stderr; echo printed > /dev/stdout")) == b"printed\n"


def test_an_agent_that_it_leaves_running_holds_nothing_up(run, tmp_path):
    """Helpers start agents that cache a login; the next run would find none, or each would take the time limit."""
    began = time.monotonic()
    agent = int(run(shell("sleep 60 >/dev/null 2>&1 & echo $!")))
    assert time.monotonic() - began < 3
    assert alive(agent)
    os.kill(agent, signal.SIGKILL)


def test_its_environment_is_the_daemons_without_what_is_the_daemons_alone(run, monkeypatch):
    """It would tell systemd that the daemon is ready, or ask the daemon for what the daemon asks of it."""
    away = dict.fromkeys(OF_THE_DAEMON, "x")
    kept = {"HOME": "/h", "PATH": os.environ["PATH"], "AWS_PROFILE": "p", "HTTPS_PROXY": "http://p", "X_ANY": "ä"}
    set_by_us = {"AWS_EC2_METADATA_DISABLED": "true"}
    assert helper_environment(away | kept | {"AWS_EC2_METADATA_DISABLED": "false"}) == kept | set_by_us
    for name, value in (away | kept).items():
        monkeypatch.setenv(name, value)
    found = json.loads(run(python("import json, os; print(json.dumps(dict(os.environ)))")))
    assert not set(away) & set(found)
    assert (kept | set_by_us).items() <= found.items()


# What it prints


@pytest.mark.parametrize("size", [2, 4096, 65537, 1 << 20])
def test_everything_that_is_printed_is_read(run, size):
    assert run(python(f"print('x' * {size - 1})")) == b"x" * (size - 1) + b"\n"


def test_much_on_standard_error_neither_blocks_nor_counts(run):
    """A pipe that nobody reads fills up, and the helper would hang."""
    assert run(python("import sys; sys.stderr.write('x' * (10 << 20)); print('done')")) == b"done\n"


@pytest.mark.parametrize("script", ["yes", "head -c 10485760 /dev/zero", "yes & yes & sleep 60"])
def test_more_than_a_megabyte_is_refused_without_being_kept(run, script):
    """A helper gone mad would take the daemon's memory."""
    began = time.monotonic()
    assert "more than 1 MB" in failure(run, Invalid, shell(script)).message
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("script", ["true", "echo", "printf ' \\n\\t'", "echo no login >&2"])
def test_nothing_printed_is_refused(run, script):
    error = failure(run, Invalid, shell(script))
    assert "printed nothing on its standard output" in error.message
    assert error.message.endswith(": no login") == ("login" in script)


# How it ends


@pytest.mark.parametrize("code", [1, 2, 127, 255])
def test_an_exit_code_is_a_denial_with_what_it_said(run, code):
    """The reason is in the helper's words alone; and asking each second would lock an account."""
    error = failure(run, Denied, shell(f"echo partial; echo 'your login has expired' >&2; exit {code}"))
    assert error.message == (f'role "deploy": command /bin/sh ended with exit code {code}: your login has expired')


def test_words_after_a_failure_hold_no_secret(run):
    """Helpers print the document where they should print the reason."""
    document = json.dumps(
        {"SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "SessionToken": "a few words"}
    )
    error = failure(
        run, Denied, python("import sys; print(sys.argv[1]); sys.exit('refused: ' + sys.argv[1])", document)
    )
    assert "refused:" in error.message
    assert "wJalr" not in error.message
    assert "a few words" not in error.message


def test_the_words_are_waited_for(run):
    """The reason often comes from what the helper has started."""
    script = "(exec >&-; sleep 0.3; echo late >&2) & exit 1"
    assert failure(run, Denied, shell(script)).message.endswith(": late")


class OwnEnd(io.FileIO):
    """An end of a pipe that knows whether its descriptor was still its own when it was closed."""

    was_own = None

    def close(self):
        if not self.closed:
            with contextlib.suppress(OSError):
                os.fstat(self.fileno())
                self.was_own = True
        super().close()


def piped(run, pieces, **options):
    """A pipe that got these, to its end, and our end of it."""
    reading, writing = os.pipe()
    end = OwnEnd(reading)

    async def read():
        pipe = _Pipe(end, **options)
        pipe.open()
        for piece in pieces:
            os.write(writing, piece)
            await asyncio.sleep(0.01)
        os.close(writing)
        await pipe.closed.wait()
        return pipe

    return run(read()), end


def test_of_many_words_the_end_is_kept(run):
    """A helper that talks for ever would take the daemon's memory."""
    assert piped(run, (b"ab", b"cdef", b"g"), last=4)[0].data == b"defg"


def test_a_pipe_is_closed_once(run):
    """Whoever closes a number that is not his own any more closes somebody else's connection."""
    _, end = piped(run, (b"x",))
    assert end.closed
    assert end.was_own


def test_no_argument_is_in_a_message(run):
    """Corporate helpers take passwords as arguments."""
    for error, work in (
        (Denied, shell("exit 1 # password1")),
        (Unreachable, shell("sleep 60 # password1", timeout=0.2)),
        (Invalid, command("/nonexistent/helper", "password1")),
    ):
        assert "password1" not in failure(run, error, work).message


def test_a_signal_is_named(run):
    assert failure(run, Unreachable, shell("kill -SEGV $$")).message.endswith("was ended by SIGSEGV")
    assert "signal 40" in failure(run, Unreachable, shell("kill -40 $$")).message


@pytest.mark.parametrize(
    "script",
    [
        "sleep 60",
        "trap '' TERM INT HUP; while :; do sleep 1; done",
        "while :; do printf x; sleep 0.1; done",
        "while :; do printf x >&2; sleep 0.1; done",
        "exec >&- 2>&-; sleep 60",
    ],
    ids=["hangs", "ignores signals", "drips", "drips on standard error", "closes its output"],
)
def test_the_time_limit_ends_it(run, script):
    """A helper that waits for a network would hold up its role for ever."""
    began = time.monotonic()
    error = failure(run, Unreachable, shell(f"echo $$ >&2; {script}", timeout=0.5))
    assert 0.4 < time.monotonic() - began < 2
    assert "did not end within 0.5 s: " in error.message
    assert_gone([int(error.message.rpartition(": ")[2].rstrip("x"))])


def test_the_time_limit_ends_everything_that_it_started(run, tmp_path):
    """Each renewal would leave processes behind, until the host has no more."""
    pids = tmp_path / "pids"
    script = f"sleep 60 & echo $! >> {pids}; (sleep 60 & echo $! >> {pids}; sleep 60) & echo $! >> {pids}; sleep 60"
    failure(run, Unreachable, shell(f"echo $$ >> {pids}; {script}", timeout=0.5))
    found = [int(pid) for pid in pids.read_text().split()]
    assert len(found) == 4
    assert_gone(found)


def test_a_child_that_keeps_the_output_open_is_said_and_ended(run):
    error = failure(run, Unreachable, shell("sleep 60 & echo $! >&2", timeout=0.5))
    assert "what it started keeps its output open" in error.message
    assert_gone([int(error.message.rpartition(": ")[2])])


def test_giving_up_ends_it(run, tmp_path):
    """The daemon's stop would take as long as the helper does, or leave it behind."""
    pids = tmp_path / "pids"

    async def give_up():
        task = asyncio.create_task(shell(f"sleep 60 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; sleep 60"))
        while not pids.exists():
            await asyncio.sleep(0.01)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - began

    assert run(give_up()) < 0.5
    assert_gone([int(pid) for pid in pids.read_text().split()])


@pytest.mark.parametrize(
    ("name", "content", "mode", "says", "advice"),
    [
        ("missing", None, 0, "is not there", "correct its path"),
        ("not-executable", "#!/bin/sh\n", 0o644, "may not be run by this user", "chmod +x"),
        ("no-interpreter", "#!/nonexistent/python\n", 0o755, "is not there", "the interpreter in the first line"),
        ("no-program", "\0\1\2", 0o755, "cannot be started: Exec format error", "whose first line names"),
    ],
)
def test_what_cannot_be_started_is_said(run, tmp_path, name, content, mode, says, advice):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    error = failure(run, Invalid, command(str(path)))
    assert error.message == f'role "deploy": command {path} {says}'
    assert advice in error.advice


def test_an_argument_that_cannot_be_one_is_said(run):
    assert "null character" in failure(run, Invalid, command("/bin/echo", "a\0b")).message


def test_a_hundred_runs_leave_nothing_open(run):
    """A week of renewals would end with no file descriptor left."""

    async def runs(count):
        for index in range(count):
            script, timeout = ("sleep 60", 0.01) if index % 4 == 0 else (f"echo x; exit {index % 2}", 10)
            with contextlib.suppress(Denied, Unreachable):
                await shell(script, timeout=timeout)
        await asyncio.sleep(0.1)

    def held():
        return [len(list(Path(f"/proc/self/{what}").iterdir())) for what in ("fd", "task")]

    run(runs(4))
    before = held()
    run(runs(100))
    assert held() == before
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert not [pid for pid in children if "sleep" in Path(f"/proc/{pid}/comm").read_text()]


def test_several_run_at_the_same_time(run):
    """One slow helper would hold up the others."""

    async def together():
        return await asyncio.gather(*(shell(f"sleep 0.5; echo {index}") for index in range(10)))

    began = time.monotonic()
    assert run(together()) == [b"%d\n" % index for index in range(10)]
    assert time.monotonic() - began < 3


# What the document says


def document(**changes):
    expiration = datetime.fromtimestamp(int(time.time()) + 3600, UTC).isoformat()
    fields = {"Version": 1, "AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "s" * 40, "SessionToken": "t" * 90}
    fields = fields | {"Expiration": expiration} | changes
    return {name: value for name, value in fields.items() if value is not None}


def source(*arguments, **settings):
    options = ProcessConfig.model_validate({"source": "process", "command": list(arguments), **settings})
    return make("deploy", options, Context(Clock(), lambda: None, None, lambda: None))


def fetch(printed, **settings):
    text = printed if isinstance(printed, str) else json.dumps(printed)
    return asyncio.run(obtain("deploy", source("/bin/echo", text, **settings), Clock()))


def test_the_document_is_the_session():
    found = fetch(document(AccountId="123456789012", Unknown="ignored"))
    assert found.access_key_id == "ASIAEXAMPLE"
    assert found.secret_access_key.reveal() == "s" * 40
    assert found.session_token.reveal() == "t" * 90
    assert found.expiration == pytest.approx(time.time() + 3600, abs=3)
    assert found.obtained == pytest.approx(time.time(), abs=3)
    assert found.account_id == "123456789012"


def test_the_role_is_what_the_config_says():
    assert fetch(document(), role_arn=ARN).role_arn == ARN


@pytest.mark.parametrize(
    ("printed", "says"),
    [
        ("hello", "not JSON"),
        (json.dumps(document())[:-3], "not JSON"),
        ("[]", "no JSON object"),
        (document(Version=None), "Version"),
        (document(Version=2), "Version"),
        (document(Version="1"), "Version"),
        (document(AccessKeyId=None), "AccessKeyId is missing"),
        (document(SecretAccessKey=""), "SecretAccessKey is missing"),
        (document(SessionToken=None), "long-lived keys"),
        (document(Expiration=None), "nobody knows when these end"),
        (document(Expiration="tomorrow"), "Expiration is no time"),
        (document(Expiration="2001-01-01T00:00:00Z"), "dead since 2001"),
        (document(Expiration="2524-01-01T00:00:00Z"), "a life of"),
    ],
)
def test_another_document_is_refused_in_words(printed, says):
    """Blank, dead or everlasting credentials would be handed out."""
    with pytest.raises(Invalid) as caught:
        fetch(printed)
    assert says in caught.value.message
    assert 'role "deploy"' in caught.value.message
    assert caught.value.advice
    assert "sssss" not in caught.value.message
