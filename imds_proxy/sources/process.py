"""A command that prints credentials: what `credential_process` names in an AWS profile, version 1 of its contract.

"Sourcing credentials with an external process" of the AWS SDKs and Tools guide. In: the role's command. Out: the
session it prints. Errors: those of `run_command`, and Invalid for another document or for long-lived keys.
"""

from dataclasses import replace

from imds_proxy.config.roles import ProcessConfig
from imds_proxy.credentials import Credentials
from imds_proxy.host.clock import Clock
from imds_proxy.host.run_command import run_command
from imds_proxy.host.threads import OneByOne
from imds_proxy.sources import credential_documents
from imds_proxy.sources.interface import Context, Source


def make(role: str, settings: ProcessConfig, context: Context) -> Source:
    """The source of one role."""
    return ProcessSource(role, settings, context.clock)


class ProcessSource(Source):
    """One role's source.

    Args:
        role: The name it has in the config.
        options: Its settings.
        clock: Wall time.
    """

    passes_on = True

    def __init__(self, role: str, options: ProcessConfig, clock: Clock) -> None:
        self._role = role
        self._options = options
        self._clock = clock
        self._starts = OneByOne()

    async def fetch(self) -> Credentials:
        """Run the command once. Each run is asked for a session of its own; whether it makes one is the helper's."""
        options = self._options
        began = self._clock.boot()
        command, starts = options.command, self._starts
        output = await run_command(self._role, command, timeout=options.timeout, what="command", starts=starts)
        origin = f"what {options.command[0]} printed"
        began_at = self._clock.then(began)
        credentials = credential_documents.parse(
            "process", output, role=self._role, origin=origin, now=began_at, source="process"
        )
        return replace(credentials, role_arn=options.role_arn or credentials.role_arn)
