"""Where credentials come from: one file per way to obtain them, each a `Source`."""

from imds_proxy.sources.interface import Source

__all__ = ["Source"]
