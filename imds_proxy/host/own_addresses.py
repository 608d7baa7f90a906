"""Addresses of this network namespace: which there are, and how one is added. By netlink (rtnetlink(7)).

The package is of an extra: this is imported by what needs it, where it needs it. Errors: ImdsProxyError.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pyroute2 import IPRoute, NetlinkError

from imds_proxy.addresses import canonical
from imds_proxy.errors import ImdsProxyError

_UP: Final = 0x1  # IFF_UP
_NO_DAD: Final = 0x02  # IFA_F_NODAD: else nothing could listen on it for a second
_HOST: Final = 254  # RT_SCOPE_HOST
_IPV6_IS_OFF: Final = frozenset((errno.EACCES, errno.EAFNOSUPPORT, errno.EOPNOTSUPP))
"""By the sysctl disable_ipv6, or by the kernel's command line."""


class Ipv6IsOffError(ImdsProxyError):
    """This interface takes no IPv6 address."""


class OwnAddresses:
    """The addresses of the network namespace of this process. For one task, on no event loop."""

    def __init__(self, kernel: IPRoute) -> None:
        self._kernel = kernel

    def where(self, address: str) -> str | None:
        """The interface that an address is on; None: it is on none.

        Args:
            address: A literal as it is usually written.
        """
        for each in self._kernel.get_addr():
            if canonical(each.get("local") or each.get("address") or "") == address:
                return self._name(each["index"])
        return None

    def interface(self, name: str) -> int:
        """The index of an interface that is up.

        Raises:
            ImdsProxyError: There is none.
        """
        for link in self._kernel.get_links():
            if link.get("ifname") != name:
                continue
            if not link["flags"] & _UP:
                raise ImdsProxyError(f"the interface {name} is down", f"ip link set {name} up")
            return int(link["index"])
        names = ", ".join(str(link.get("ifname")) for link in self._kernel.get_links())
        raise ImdsProxyError(f"there is no interface {name} here", f"--interface takes one of {names}")

    def add(self, address: str, index: int) -> None:
        """Add an address to an interface: it alone, without a network around it.

        This host sends from any other of its addresses first: IPv4 has this one in the scope of the host, and IPv6,
        which has no such scope for it, as a deprecated address. Who connects to it is answered from it.

        Raises:
            Ipv6IsOffError: IPv6 is disabled here.
            ImdsProxyError: It cannot be added.
        """
        try:
            if ":" in address:
                life = {"preferred": 0, "valid": 0xFFFF_FFFF}
                self._kernel.addr("add", index=index, address=address, prefixlen=128, flags=_NO_DAD, **life)
            else:
                self._kernel.addr("add", index=index, address=address, prefixlen=32, scope=_HOST)
        except NetlinkError as error:
            if error.code == errno.EEXIST:
                return
            raise _problem(address, int(error.code)) from None

    def _name(self, index: int) -> str:
        return next((str(link.get("ifname")) for link in self._kernel.get_links() if link["index"] == index), "?")


@contextmanager
def own_addresses() -> Iterator[OwnAddresses]:
    """Those of the present network namespace.

    Raises:
        ImdsProxyError: The kernel cannot be asked here.
    """
    try:
        kernel = IPRoute()
    except OSError as error:
        advice = "what runs this has to let it open a netlink socket (AF_NETLINK)"
        raise ImdsProxyError(f"the kernel cannot be asked for addresses: {error.strerror}", advice) from None
    with kernel:
        yield OwnAddresses(kernel)


def _problem(address: str, code: int) -> ImdsProxyError:
    if ":" in address and code in _IPV6_IS_OFF:
        return Ipv6IsOffError(f"{address} is not added: IPv6 is disabled here")
    if code == errno.EPERM:
        return ImdsProxyError(f"{address} cannot be added: this takes the capability CAP_NET_ADMIN", _CAPABILITY)
    return ImdsProxyError(f"{address} cannot be added: {errno.errorcode.get(code, code)}")


_CAPABILITY: Final = (
    "run it as root; in a pod, securityContext: {runAsUser: 0, capabilities: {drop: [ALL], add: [NET_ADMIN]}} of the"
    " init container, because Kubernetes gives an added capability to root alone"
)
