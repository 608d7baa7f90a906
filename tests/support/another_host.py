"""Another host on this machine: a machine id and a host name of its own, and nothing that says it is a container."""

import os
import shutil
from pathlib import Path

import pytest

# Every entry of / but what Docker leaves there, and the machine id; all of it ends with the process.
_ENTER = """
set -e
identity=$1 name=$2; shift 2
echo "$name" > /proc/sys/kernel/hostname
mount --make-rprivate /
mount -t tmpfs host /mnt
for entry in /* /.[!.]*; do
    case $entry in /mnt | /.dockerenv | "/.[!.]*") continue ;; esac
    if [ -L "$entry" ]; then cp -P "$entry" "/mnt$entry"
    elif [ -d "$entry" ]; then mkdir "/mnt$entry"; mount --rbind "$entry" "/mnt$entry"
    else touch "/mnt$entry"; mount --bind "$entry" "/mnt$entry"
    fi
done
mount --bind "$identity" /mnt/etc/machine-id
exec chroot /mnt sh -c 'cd "$0"; exec "$@"' "$PWD" "$@"
"""


def another_host(folder: Path, name: str, machine_id: str) -> list[str]:
    """A launcher (`DaemonProcess`) for a process of that host; files are those of this one."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or not Path("/etc/machine-id").exists():
        pytest.skip("another host takes root, unshare(1) and a machine id")
    identity = folder / f"{machine_id[:8]}.machine-id"
    identity.write_text(machine_id + "\n")
    return ["unshare", "--mount", "--uts", "sh", "-c", _ENTER, "sh", str(identity), name]
