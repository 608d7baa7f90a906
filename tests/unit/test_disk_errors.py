"""Why a file cannot be written (disk_errors.py)."""

import errno
import os

import pytest

from imds_proxy.errors import FileError
from imds_proxy.host.file_errors import write_failure

OWN = {errno.EROFS: "configure another path", errno.ENOTDIR: "another word for it"}


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free space on that file system"),
        (errno.EDQUOT, "free space: the quota is used up"),
        (errno.EISDIR, "correct the path: it is a folder"),
        (errno.ELOOP, "configure the path of the file itself, not of a symbolic link"),
        (errno.EROFS, "configure another path"),
        (errno.ENOTDIR, "another word for it"),
        (errno.EIO, "see what is wrong with the file system"),
    ],
)
def test_the_message_names_the_file_and_the_advice_fits_it(number, advice):
    """The operator would have to guess which file, and what to do."""
    failure = write_failure("/x/file", OSError(number, os.strerror(number)), OWN)
    assert failure.message == f"/x/file cannot be written: {os.strerror(number)}"
    assert failure.advice == advice


def test_an_error_that_knows_what_to_do_keeps_its_words():
    failure = write_failure("/x/file", FileError("has hard links", "remove them"), OWN)
    assert (failure.message, failure.advice) == ("/x/file has hard links", "remove them")
