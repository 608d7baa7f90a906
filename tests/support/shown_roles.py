"""A control plane in a thread of its own, whose roles are as a test says, for what a real daemon seldom is."""

import asyncio
import threading
import time

from imds_proxy.credentials import Credentials, Secret
from imds_proxy.renewal.attempt import Failure
from support.control_plane import control_plane

START_TIME = 30


class ShownRoles:
    """`with ShownRoles(names) as shown:` serves them at `shown.url`; the browser is root there."""

    def __init__(self, names, **options):
        self._names, self._options = names, options
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(START_TIME)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with control_plane(self._names, **self._options) as self.plane:
            self.url = "http://{}:{}/".format(*self.plane.address)
            self._ready.set()
            await self._stop.wait()

    def _change(self, function, *arguments):
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (function(*arguments), done.set()))
        assert done.wait(START_TIME)

    @property
    def renewals(self):
        return self.plane.status._measured.renewals

    def hold(self, name, life=3600.0, age=600.0):
        """The role has a session of some life and age."""
        now = time.time()
        arn = f"arn:aws:sts::123456789012:assumed-role/{name}/web-1"
        made = Credentials("ASIAEXAMPLEEXAMPLE", Secret("x"), Secret("y"), now - age + life, now - age, session_arn=arn)
        self._change(lambda: self.plane.roles[name].keeper.adopt(made, due=False))

    def fail(self, name, message, advice="", outcome="denied"):
        """The role's last renewal failed."""
        keeper = self.plane.roles[name].keeper
        self._change(lambda: setattr(keeper, "failure", Failure(outcome, message, advice, time.time())))

    def remember(self, name, *attempts):
        """Attempts: `(seconds ago, outcome)`, oldest first, in place of those that there are."""

        def replace():
            self.renewals.history.pop(name, None)
            for ago, outcome in attempts:
                self.renewals.history[name].add(time.time() - ago, outcome)

        self._change(replace)
