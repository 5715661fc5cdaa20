"""The public internet and nothing nearer: what a download may connect to.

A host's answer may redirect to an address inside the network of whoever downloads (a cloud's 169.254.169.254, a router,
a service on loopback), and a name of a stranger's may resolve to one, differently from one moment to the next. So it
is not the url that is checked but the address of every connection, by Python's own audit event, just before it is
made: whatever library asks, after every redirect and every look-up.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
import threading
import urllib.request
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit

_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class InternalAddress(PermissionError):
    """A connection to an address that is not on the public internet."""


@contextmanager
def public_only(allowed: Collection[str] = ()) -> Iterator[None]:
    """Let this thread connect to the public internet, the user's own proxies and some named hosts alone.

    ``allowed`` are names or addresses of hosts that may be asked although they are internal.
    """
    _watch()
    proxies = [urlsplit(url).hostname or "" for url in urllib.request.getproxies().values()]
    before = getattr(_thread, "allowed", None)
    _thread.allowed = {address for host in (*allowed, *proxies) for address in _addresses(host)}
    try:
        yield
    finally:
        _thread.allowed = before


def is_public(text: str) -> bool:
    """Whether a numeric address is on the public internet, also one that is wrapped into an IPv6 address."""
    try:
        address = _unwrapped(ipaddress.ip_address(text))
    except ValueError:  # a name, or no address at all
        return False
    return address.is_global and not address.is_multicast


def _unwrapped(address: IPAddress) -> IPAddress:
    """The IPv4 address to which an IPv6 address in fact leads."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _addresses(host: str) -> set[str]:
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None)} if host else set()
    except OSError:  # a proxy or host that nobody knows is not there to be allowed
        return set()


_thread = threading.local()


@cache
def _watch() -> None:
    """Install the hook, once a process; it is idle in threads outside of `public_only`."""
    sys.addaudithook(_on_audit)


def _on_audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        return
    allowed = getattr(_thread, "allowed", None)
    if allowed is None or arguments[1] is None:  # the latter is a datagram of a socket that is connected already
        return
    address = arguments[1]
    host = str(address[0]) if isinstance(address, tuple) else repr(address)
    if host not in allowed and not is_public(host):
        raise InternalAddress(
            f"refused: {host} is not on the public internet; where you mean a host of your own: "
            "--set 'download.internal_hosts=[\"NAME\"]'"
        )
