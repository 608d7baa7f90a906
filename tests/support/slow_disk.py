"""`slow_disk.py SECONDS serve …`: imds-proxy on a disk that takes so long for each sync."""

import os
import sys
import time

if __name__ == "__main__":
    seconds, sync = float(sys.argv.pop(1)), os.fsync

    def slow(descriptor):
        time.sleep(seconds)  # as a real one does, it lets other threads run
        sync(descriptor)

    os.fsync = slow
    from imds_proxy.cli.main import main

    sys.exit(main())
