"""Writing a file of the operator's so that a reader, or a crash, sees the old one or the new one."""

from pathlib import Path

from imds_proxy import atomic_file
from imds_proxy.atomic_file import Access
from imds_proxy.errors import FileError


def replace(path: Path, content: str, mode: int) -> None:
    """Make `content` the file's; one that is there keeps its owner, group and mode, a new one has `mode`.

    Raises:
        FileError: It cannot be written; the old one is whole.
    """
    try:
        path = path.resolve()  # a link to it stays one
        path.parent.mkdir(0o755, parents=True, exist_ok=True)
        try:
            access = Access.of(path.stat())
        except FileNotFoundError:
            access = Access(mode)
        atomic_file.replace(path, content.encode(), access)
    except OSError as error:
        advice = "run this as root, or as the user that the file and its folder belong to"
        raise FileError(f"{path} cannot be written: {error.strerror}", advice) from None
