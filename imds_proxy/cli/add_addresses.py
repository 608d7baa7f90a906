"""`imds-proxy add-addresses`: put the addresses at which pods look for credentials on this host."""

import argparse
import importlib
import ipaddress
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from imds_proxy.errors import ConfigError, ImdsProxyError
from imds_proxy.host.extras import how_to_install

if TYPE_CHECKING:
    from types import ModuleType

POD_ADDRESSES: Final = ("169.254.170.23", "fd00:ec2::23")
"""Those of the EKS Pod Identity agent, which SDKs accept in a container's URI."""

_ALLOWED: Final = tuple(map(ipaddress.ip_network, ("169.254.0.0/16", "fd00:ec2::/32", "127.0.0.0/8", "::1/128")))
_OF_A_CLOUD: Final = tuple(map(ipaddress.ip_network, ("169.254.169.0/24", "fd00:ec2::/32")))
_OF_PODS: Final = frozenset(map(ipaddress.ip_address, POD_ADDRESSES))
_EPILOG: Final = (
    "It takes the capability CAP_NET_ADMIN and no other; the daemon, which listens there, does not. In a pod with"
    " hostNetwork, let an init container run it, as user 0 with drop: [ALL] and add: [NET_ADMIN]. What is there"
    " already, on whatever interface, stays as it is, so it may be run at any time. Where IPv6 is disabled, its"
    " addresses are left out with a warning. It takes no address away: ip address del ADDRESS dev lo does, and a"
    " restart of the host."
)


def register(verbs: Any) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "add-addresses",
        help="put the addresses that pods ask on this host",
        description="Put addresses on an interface of this network namespace, each alone (/32, /128), so that the"
        " daemon can listen on them: those at which the SDKs in a pod look for credentials, or others.",
        epilog=_EPILOG,
    )
    verb.add_argument(
        "--interface", default="lo", metavar="NAME", help="where to put them (default: lo, which pods reach as well)"
    )
    verb.add_argument(
        "--hide-cloud-services",
        action="store_true",
        help="allow 169.254.169.254 and its like, too: a metadata, DNS or time service of the cloud that this host is"
        " in cannot be reached from here any more",
    )
    verb.add_argument(
        "addresses",
        nargs="*",
        type=_address,
        metavar="ADDRESS",
        help=f"link-local ones (default: {' and '.join(POD_ADDRESSES)})",
    )
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print a line for each address: what was done about it."""
    wanted = list(dict.fromkeys(options.addresses)) or list(POD_ADDRESSES)
    if not options.hide_cloud_services:
        _check_hides_nothing(wanted)
    netlink = _netlink()
    there = 0
    with netlink.own_addresses() as addresses:
        index = addresses.interface(options.interface)
        for address in wanted:
            if (place := addresses.where(address)) is not None:
                print(f"{address}: is on {place} already")
            else:
                try:
                    addresses.add(address, index)
                except netlink.Ipv6IsOffError as error:
                    print(f"imds-proxy: warning: {error.message}", file=sys.stderr)
                    continue
                print(f"{address}: added to {options.interface}")
            there += 1
    if not there:
        raise ImdsProxyError("none of the addresses is there", "name an IPv4 address, or enable IPv6 on this host")
    return 0


def _address(text: str) -> str:
    """An address that may be added, as it is usually written; with the length of its own it may be given, too."""
    bare, slash, length = text.partition("/")
    try:
        address = ipaddress.ip_address(bare if "%" not in bare else "")
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no IP address") from None
    if slash and length != str(address.max_prefixlen):
        raise argparse.ArgumentTypeError(f"{text}: an address is added alone: write {address}")
    if not any(address in network for network in _ALLOWED):
        raise argparse.ArgumentTypeError(
            f"{text}: only addresses of 169.254.0.0/16 and fd00:ec2::/32, and loopback ones: another host or service"
            " that has this one could not be reached from here any more"
        )
    return str(address)


def _check_hides_nothing(wanted: Sequence[str]) -> None:
    """Raises ConfigError for an address at which clouds have services of their own."""
    for text in wanted:
        address = ipaddress.ip_address(text)
        if address not in _OF_PODS and any(address in network for network in _OF_A_CLOUD):
            raise ConfigError(
                f"{text}: in a cloud this host would not reach the cloud's own service there any more; outside, or to"
                " do that, add --hide-cloud-services"
            )


def _netlink() -> "ModuleType":
    """What speaks to the kernel; of an extra."""
    try:
        return importlib.import_module("imds_proxy.host.own_addresses")
    except ModuleNotFoundError as error:
        raise ImdsProxyError(
            f"add-addresses needs the Python package {error.name}, which is not installed",
            how_to_install("kubernetes", str(error.name)),
        ) from None
