"""Write again what is made of the chart: tests/support/chart_files.py says what. Run it as `make golden`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.chart_files import made, stale

if __name__ == "__main__":
    left_over = set(stale()) - set(contents := made())
    for path in left_over:
        path.unlink()
    for path, content in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
