"""One look at a user's keys: what every step of it needs."""

from dataclasses import dataclass

from imds_proxy.base_key.access_keys import AccessKey, KeyPair, User, hint
from imds_proxy.base_key.iam import Caller
from imds_proxy.base_key.journal import Record, save
from imds_proxy.base_key.key_file import CredentialsFile
from imds_proxy.errors import Invalid
from imds_proxy.host.clock import Clock
from imds_proxy.host.state_dir import StateDir


@dataclass(slots=True)
class Turn:
    """A run as far as it has come.

    Args:
        file: Where the key in use is.
        key: What the file holds.
        caller: Signs with that key.
        user: Whose it is.
        keys: The user's keys by id, as AWS said.
        record: What was noted so far.
        state: Where it is noted.
        clock: Wall time.
    """

    file: CredentialsFile
    key: KeyPair
    caller: Caller
    user: User
    keys: dict[str, AccessKey]
    record: Record
    state: StateDir
    clock: Clock

    @property
    def now(self) -> float:
        """AWS's time, in seconds since the epoch."""
        return self.clock.wall() + self.clock.skew

    def note(self, record: Record) -> None:
        """Have the next run know it; raises StateError."""
        save(self.state, record)
        self.record = record

    async def delete(self, key_id: str) -> None:
        """Delete a key that is not in use here; raises SourceError."""
        self._refuse_if_file_changed()
        await self.caller.delete(self.user, key_id)
        self.keys.pop(key_id, None)

    async def deactivate(self, key_id: str) -> None:
        """Deactivate a key that is not in use here; raises SourceError."""
        self._refuse_if_file_changed()
        await self.caller.deactivate(self.user, key_id)

    def _refuse_if_file_changed(self) -> None:
        """No key is ended before the file was read once more, and holds the one that is to stay."""
        if self.file.read() != self.key:
            what = f"the shared credentials file does not hold the key {hint(self.key.id)} any more: no key was ended"
            raise Invalid(what, "nothing: the next run takes the file as it is then")
