"""A process that can open nothing any more."""

import contextlib
import os
import resource


@contextlib.contextmanager
def no_file_left():
    """Until the end of the block this process can open nothing."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
