"""The text of a file that the agent reads."""

import codecs
from pathlib import Path

from imds_proxy.errors import ConfigError
from imds_proxy.host import utf8
from imds_proxy.host.utf8 import NotUtf8Error


def read(path: Path) -> tuple[str, bool]:
    """The text without a byte order mark, and whether there was one.

    Raises:
        ConfigError: It is missing, may not be read, or is no UTF-8; nothing of it is repeated.
    """
    try:
        content = path.read_bytes()
        return utf8.decoded(content), content.startswith(codecs.BOM_UTF8)
    except FileNotFoundError:
        raise ConfigError(f"{path} is not there") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except NotUtf8Error as error:
        raise ConfigError(f"{path} {error.message}", (error.advice,)) from None
