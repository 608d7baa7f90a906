"""Scripts of this folder in whose process `imds-proxy` runs, with something of the interpreter changed for it."""

from pathlib import Path


def by(script: str, *arguments: object) -> list[str]:
    """A launcher (`DaemonProcess`): the script gets its arguments and then those of `imds-proxy`."""
    path = Path(__file__).with_name(f"{script}.py")
    command = " ".join(f"'{each}'" for each in (path, *arguments))
    return ["sh", "-c", f'shift 2; exec "$0" {command} "$@"']  # in the place of `python -m imds_proxy`
