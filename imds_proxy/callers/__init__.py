"""Who is asking, and what they may have."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imds_proxy.callers.caller import Caller, ServiceAccount
    from imds_proxy.callers.grants import Grants

_ROOMS = {"Caller": "caller", "Grants": "grants", "ServiceAccount": "caller"}

__all__ = ["Caller", "Grants", "ServiceAccount"]


def __getattr__(name: str) -> object:
    """Import what is asked for: who only looks who listens on a port would wait for the whole config otherwise."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
