"""Who is asking, and what they may have."""

from imds_proxy.callers.caller import Caller, ServiceAccount
from imds_proxy.callers.grants import Grants

__all__ = ["Caller", "Grants", "ServiceAccount"]
