"""The AWS CLI, version 1 or 2: a process per call, as it is used. The first argument is the program.

Besides the usual arguments: `sync FOLDER PREFIX`, a job of many calls.
"""

import subprocess
import sys

from contract import ENDPOINT, run

AWS = [sys.argv.pop(1), "--endpoint-url", ENDPOINT]


def aws(*arguments):
    done = subprocess.run([*AWS, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr) if sys.argv[1] == "once" else RuntimeError(done.stderr)


if sys.argv[1] == "sync":
    _, _, folder, prefix = sys.argv
    sys.exit(subprocess.run([*AWS, "s3", "sync", folder, f"s3://bucket/{prefix}"], check=False).returncode)
run(lambda: aws("s3api", "list-buckets"), lambda: aws("sts", "get-caller-identity"))
