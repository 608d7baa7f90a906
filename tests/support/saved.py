"""What a daemon has saved, and sessions saved by hand."""

import asyncio
import json
from pathlib import Path

from imds_proxy.host.state_dir import StateDir
from imds_proxy.renewal.disk_cache import SavedSessions
from imds_proxy.renewal.save_queue import SaveQueue
from imds_proxy.renewal.saved_key import _seal
from imds_proxy.renewal.seal import Seal
from imds_proxy.renewal.session_shape import SessionShape

KEY = bytes(range(32))
HOUR = 3600


def shape(digest: str = "shape", name: str | None = None, longest_life: int = HOUR) -> SessionShape:
    return SessionShape(digest, name, longest_life)


def saved_sessions(path: Path, key: bytes = KEY, machine_id: str | None = None, cipher=None) -> SavedSessions:
    """In a state directory, without a key file."""
    return SavedSessions(StateDir(path), Seal(key, machine_id, cipher))


def save_queue(saved: SavedSessions | None) -> SaveQueue:
    """Of a state directory that is open; to be closed."""
    opening = asyncio.get_running_loop().create_future()
    opening.set_result(saved)
    return SaveQueue(opening)


def session_file(state: Path, role: str = "deploy") -> Path:
    return state / f"credentials/{role}.json"


def read_session(path: Path) -> dict:
    """The content of a file that is not encrypted, whoever sealed it."""
    return json.loads(json.loads(path.read_bytes())["content"])


def edit(seal: Seal, path: Path, change) -> None:
    """Change what is saved and seal it again, as only the daemon itself could: `change(document)`."""
    document = json.loads(seal.open(path.read_bytes()))
    change(document)
    path.write_bytes(seal.close(json.dumps(document).encode()))


def seal_of(state: Path) -> Seal:
    """That of a daemon on this host, in the environment that tests give it."""
    return _seal(StateDir(state), {})
