"""Addresses that a source must not lead to.

A recipe, a mirror or a redirect may name any host, and the machine that fetches may reach hosts
that nobody outside does: above all the cloud's metadata service, which hands out credentials at a
link-local address. The address is looked at when the connection stands, so that neither a name
that resolves to it nor a redirect gets past.
"""

import contextlib
import ipaddress
import os
import socket
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from omnistage.errors import InputError

REFUSED_VARIABLE = "OMNISTAGE_REFUSED_NETWORKS"
"""Further networks that sources must not lead to, such as ``10.0.0.0/8,172.20.0.0/16``."""
_METADATA = ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "100.100.100.200/32")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_OWN_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "HF_ENDPOINT")
"""Addresses that whoever set the machine or the chart up chose; they may be in such a network."""
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_address(text: str, where: str) -> None:
    """Refuse an address of a network that sources must not lead to.

    Args:
        text: The address; what is none is passed over, since it is looked at when it is resolved.
        where: The host, for the message.

    Raises:
        InputError: If it is refused, or the environment variable is not a list of networks.
    """
    try:
        address = _plain(ipaddress.ip_address(text.strip("[]").partition("%")[0]))
    except ValueError:
        return
    own = where in _own_hosts()
    for network in (*_METADATA, *(() if own else _configured())):
        if address in _network(network):
            raise InputError(
                f"{where}: leads to {address}, in the network {network}, which no source may"
            )


class _Guarded:
    """What a connection does more: it looks at the address before a request is sent."""

    def _new_conn(self) -> Any:
        host: Any = getattr(self, "host")  # noqa: B009  # of the connection that it is mixed into
        sock = super()._new_conn()  # pyright: ignore[reportAttributeAccessIssue]
        try:
            if not getattr(self, "proxy", None):  # the user's own choice, and not the source's
                check_address(sock.getpeername()[0], host)
        except BaseException:
            sock.close()
            raise
        return sock


class _HTTP(_Guarded, HTTPConnection):
    pass


class _HTTPS(_Guarded, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTP  # pyright: ignore[reportAssignmentType]  # typed as a protocol


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPS  # pyright: ignore[reportAssignmentType]  # typed as a protocol


class GuardedPools(urllib3.PoolManager):
    """Connections to servers, but not to those that sources must not lead to."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


class GuardedProxy(urllib3.ProxyManager):
    """Connections through a proxy, which resolves names itself: only addresses are looked at."""

    def urlopen(self, method: str, url: str, redirect: bool = True, **settings: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Ask for a URL; also called for each redirect."""
        host = urlsplit(url).hostname or ""
        with contextlib.suppress(OSError):  # a name; or one of the forms like 0xA9FEA9FE
            check_address(socket.inet_ntoa(socket.inet_aton(host)), host)
        check_address(host, host)
        return super().urlopen(method, url, redirect=redirect, **settings)


def _plain(address: _Address) -> _Address:
    """Return the IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _configured() -> list[str]:
    return [n.strip() for n in os.environ.get(REFUSED_VARIABLE, "").split(",") if n.strip()]


def _own_hosts() -> set[str]:
    found = {urlsplit(os.environ.get(name, "")).hostname for name in _OWN_ENDPOINTS}
    return {host for host in found if host}


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as e:
        raise InputError(f"{REFUSED_VARIABLE}: {text!r} is not a network: {e}") from e
