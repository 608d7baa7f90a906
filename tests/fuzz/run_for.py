"""The fuzz targets for some minutes, with another seed each time; ends with 1 at the first input that fails one.

What was found is shown by pytest, with the seed of its run, and belongs into the target's file as a test of its own.
"""

import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

TIMES = 3
"""How many times as many examples in each run as in CI."""


def main(minutes: float, *arguments: str) -> int:
    end, number = time.monotonic() + minutes * 60, 0
    while time.monotonic() < end:
        number, seed = number + 1, secrets.randbelow(2**32)
        left = (end - time.monotonic()) / 60
        print(f"run {number}, seed {seed}, {left:.0f} min left", flush=True)
        command = [sys.executable, "-m", "pytest", "-qx", f"--hypothesis-seed={seed}", str(Path(__file__).parent)]
        done = subprocess.run([*command, *arguments], env=os.environ | {"FUZZ_TIMES": str(TIMES)}, check=False)
        if done.returncode:
            print(f"found with seed {seed}: FUZZ_TIMES={TIMES} pytest --hypothesis-seed={seed} tests/fuzz")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), *sys.argv[2:]))
