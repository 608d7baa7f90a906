"""Where credentials come from: one file per way to obtain them, each a `Source`."""

from imds_proxy.sources.interface import Context, Source, obtain, unexpected

__all__ = ["Context", "Source", "obtain", "unexpected"]
