"""Writes everything in this folder that is made from Python: the dashboard, and the rules; see `make dashboards`."""

import argparse
import sys
from pathlib import Path

import dashboard
import rules

FOLDER = Path(__file__).parent


def files() -> dict[str, str]:
    """The text of every rendered file, by its name."""
    return dashboard.files() | rules.files()


def main() -> int:
    """Write them, or with `--check` say which is not what would be written."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is not current")
    check = arguments.parse_args().check
    stale = [name for name, text in files().items() if _now(FOLDER / name) != text]
    for name in stale:
        if check:
            print(f"grafana/{name} is not current: run make dashboards", file=sys.stderr)
        else:
            (FOLDER / name).write_text(files()[name])
    return 1 if check and stale else 0


def _now(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
