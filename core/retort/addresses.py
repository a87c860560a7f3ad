"""Resolve a URL to a public address, or refuse it.

Whoever connects uses the address that was checked here, and asks again for each redirect: a guard that looks a name up,
and a client that looks it up once more, can be given two answers (CVE-2023-47116).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import SplitResult, urlsplit

from retort.errors import FetchError, UserError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Lookup = Callable[[str, int], Sequence[str]]
"""Gives the addresses of a host name."""

LONGEST_URL = 2048
_PRINTABLE = re.compile(r"[!-\[\]-~]*")
"""ASCII without spaces and backslashes, which readers of URLs take for different things."""
_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")
_NUMBER = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)")
_PORTS = {"https": 443, "http": 80}
_PUBLIC6 = ipaddress.IPv6Network("2000::/3")
"""All that is given out; IPv4 within IPv6, NAT64, and local addresses lie outside."""
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24",
        "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",
        "240.0.0.0/4", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
    )
)  # fmt: skip
"""Special addresses by IANA's registries, 6to4 and Teredo with them; 168.63.129.16 is a cloud's own service."""


class AddressError(UserError):
    """A URL is malformed, or leads to an address that is not public."""

    code = "bad_address"


@dataclass(frozen=True, slots=True)
class PublicAddress:
    """A URL whose host is resolved, for a client that looks nothing up."""

    url: str
    """As it was given."""
    scheme: str
    host: str
    port: int
    address: str
    """The one that was checked, to which the client connects."""
    target: str
    """Path and query."""

    @property
    def pinned_url(self) -> str:
        """The URL with the address in the place of the host's name."""
        literal = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.scheme}://{literal}:{self.port}{self.target}"

    @property
    def headers(self) -> dict[str, str]:
        """The header that names the host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return {"Host": host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"}

    @property
    def extensions(self) -> dict[str, str]:
        """The extension by which httpx checks a certificate against the host's name."""
        return {"sni_hostname": self.host}


def look_up(host: str, port: int) -> Sequence[str]:
    """Return the addresses of *host* by the system's resolver.

    Raises:
        FetchError: it has none, or nobody answers.

    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchError(f"the host {host} cannot be resolved: {error}", hint="look at its spelling") from error
    return [str(entry[4][0]) for entry in found]


def is_public(address: Address) -> bool:
    """Return True if *address* is one of the public network."""
    if address.version == 6 and (address not in _PUBLIC6 or address.scope_id is not None):
        return False
    return not any(address in network for network in _NOT_PUBLIC if network.version == address.version)


def resolve_public(
    url: str,
    *,
    schemes: Collection[str] = ("https",),
    trusted: Sequence[Network] = (),
    lookup: Lookup = look_up,
) -> PublicAddress:
    """Return *url* with its host resolved to a public address.

    Addresses in the *trusted* networks, which the operator names, are taken too. Of a name with several addresses each
    must be one of these.

    Raises:
        AddressError: it is malformed, of another scheme, holds a password, or leads to an address that is not public.
        FetchError: its host cannot be resolved.

    """
    parts, port = _parts(url, schemes)
    host = parts.hostname or ""
    literal = _literal(host)
    addresses = [literal] if literal is not None else [_parsed(found) for found in lookup(host, port)]
    if not addresses:
        raise FetchError(f"the host {host} cannot be resolved: it has no address", hint="look at its spelling")
    for address in addresses:
        if not is_public(address) and not any(address in network for network in trusted):
            _refuse(f"{host} leads to {address}, which is not a public address", "name a host that everybody can reach")
    target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    return PublicAddress(url, parts.scheme, host, port, str(addresses[0]), target)


def resolve_target(url: str, trusted: Sequence[Network], *, lookup: Lookup = look_up) -> PublicAddress:
    """Return *url* for a message of the service, with its host resolved and checked.

    Plain HTTP reaches addresses in the *trusted* networks alone.

    Raises:
        AddressError: as for ``resolve_public``, or it is plain HTTP to another address.
        FetchError: its host cannot be resolved.

    """
    found = resolve_public(url, schemes=("https", "http"), trusted=trusted, lookup=lookup)
    if found.scheme == "http" and not any(ipaddress.ip_address(found.address) in network for network in trusted):
        _refuse("plain HTTP is sent to the operator's own networks alone", "write https://")
    return found


def check_url(url: str, hosts: Collection[str]) -> None:
    """Refuse a URL that is not https, or not on one of *hosts*.

    Nothing is looked up.

    Raises:
        AddressError: what is wrong with it.

    """
    parts, _ = _parts(url, ("https",))
    _literal(parts.hostname or "")
    if not is_named(parts.hostname or "", hosts):
        _refuse(f"{parts.hostname} is none of the hosts that the service fetches from", "RETORT_FETCH_FROM lists them")


def is_named(host: str, hosts: Collection[str]) -> bool:
    """Return True if *host* is one of *hosts*.

    These are names; ``*.`` before one stands for all below it, and ``*`` for all.
    """
    host = host.lower().rstrip(".")
    named = (one.lower() for one in hosts)
    return any(one in {"*", host} or (one.startswith("*.") and host.endswith(one[1:])) for one in named)


def shown(url: str) -> str:
    """Return *url* without its query, which may hold a signature."""
    return urlsplit(url)._replace(query="").geturl()


def _refuse(message: str, hint: str) -> NoReturn:
    raise AddressError(f"the URL cannot be used: {message}", hint=hint)


def _parts(url: str, schemes: Collection[str]) -> tuple[SplitResult, int]:
    wanted = f"write {' or '.join(f'{scheme}://' for scheme in schemes)}host/path"
    if len(url) > LONGEST_URL:
        _refuse(f"it is longer than {LONGEST_URL} characters", "shorten it")
    if not _PRINTABLE.fullmatch(url):
        _refuse("it holds a space, a backslash, or a character that is not ASCII", "encode it with %")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        _refuse(f"it is malformed: {error}", wanted)
    if parts.scheme not in schemes:
        _refuse(f"its scheme is {parts.scheme[:20]!r}", wanted)
    if "@" in parts.netloc:
        _refuse("it holds a user's name or password", "leave both out")
    if parts.fragment or url.endswith("#"):
        _refuse("it has a part behind #", "leave that out")
    if port == 0 or parts.netloc.endswith(":"):
        _refuse("its port is not a number from 1 to 65535", wanted)
    return parts, port or _PORTS[parts.scheme]


def _literal(host: str) -> Address | None:
    """Return the address that *host* spells, or None for a name.

    Spellings that only some readers take for an address, such as 2130706433, 0177.0.0.1 or 127.1, are refused.
    """
    if ":" in host:
        return _parsed(host)
    if not _NAME.fullmatch(host) or len(host) > 253:
        _refuse(f"its host {host[:60]!r} is no name", "write a name in ASCII letters, or an address in the usual form")
    return _parsed(host) if _NUMBER.fullmatch(host.rpartition(".")[2]) else None


def _parsed(text: str) -> Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        _refuse(f"its host {text[:60]!r} is no address in the usual form", "write four decimal numbers, or IPv6 in [ ]")
