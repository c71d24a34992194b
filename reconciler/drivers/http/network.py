"""Where requests may go (SSRF rules): a provider's own global hosts over https, and what the configuration allows.

The spelling of a URL is checked before its name is resolved; then every address of the name is checked, and connections go only
to checked addresses, so DNS rebinding between check and use has no effect.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from reconciler.model.errors import AddressRefused

_HOST = re.compile(r"^(?=.{1,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_GLOBAL_V6 = ipaddress.ip_network("2000::/3")
"""The only global unicast block (RFC 4291); NAT64, v4-mapped, v4-translated and site-local forms are outside of it."""
_HIDING_V6 = tuple(ipaddress.ip_network(text) for text in ("2002::/16", "2001::/23", "3fff::/20"))
"""6to4 and Teredo contain another address; protocol assignments and documentation prefixes belong to no host."""
_NEVER = tuple(
    ipaddress.ip_network(text) for text in ("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/128", "fe80::/10", "ff00::/8")
)
"""Link-local (cloud metadata), unspecified, multicast, reserved: only a CIDR in ``network.allow`` opens these, never a host name."""
_HOW_TO_ALLOW = (
    "If this is intended, add the host or its CIDR to `network.allow`; only the integration whose URL names it may call it."
)
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """The allowed targets. ``hosts``: a provider's own (``*.semaphoreci.com`` covers one label); ``allow``: hosts (``HOST`` or
    ``HOST:PORT``) or CIDRs of the configuration's ``network.allow``, which may also use plain http and other ports.
    """

    hosts: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()

    def check_url(self, url: str) -> None:
        """Raise `AddressRefused` unless the policy allows the spelling of ``url``."""
        host, port, scheme = self._parts(url)
        if self._allowed(host, port):
            return
        if scheme != "https":
            raise AddressRefused(f"{scheme}://{host} is not https", hint="Only hosts in `network.allow` may be called over http.")
        if port not in (None, 443):
            raise AddressRefused(
                f"{host}:{port} is not the https port", hint="Only hosts in `network.allow` may use another port."
            )
        address = _literal(host)
        if address is not None and not is_global(address):
            raise AddressRefused(f"{host} is not a public address", hint=_HOW_TO_ALLOW)
        if not any(_covers(pattern, host) for pattern in self.hosts):
            what = "a host of this provider" if self.hosts else "allowed by `network.allow`"
            raise AddressRefused(
                f"{host} is not {what}", hint=f"If this is intended, add {host} to `network.allow` in the configuration."
            )

    def check_addresses(self, host: str, addresses: Iterable[str], port: int | None = None) -> None:
        """Raise `AddressRefused` unless the policy allows every one of ``addresses`` for ``host``."""
        name_allowed = self._allowed_by_name(host, port)
        for text in addresses:
            address = ipaddress.ip_address(text.partition("%")[0])
            if self._in_allowed_network(address) or (name_allowed and not _never_by_name(address)):
                continue
            if not is_global(address):
                raise AddressRefused(f"{host} resolves to an address that is not public", hint=_HOW_TO_ALLOW)

    def _parts(self, url: str) -> tuple[str, int | None, str]:
        if any(ord(c) < 33 or c in "\\\x7f" or ord(c) > 126 for c in url):
            raise AddressRefused("the URL has an invalid character")
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            raise AddressRefused("the URL is invalid") from None
        if parts.scheme not in {"https", "http"} or not host:
            raise AddressRefused("the URL is not http(s)://HOST/…")
        if parts.username is not None or parts.password is not None or "@" in parts.netloc:
            raise AddressRefused("the URL contains a user name or password", hint="Put credentials into a Secret.")
        self._check_host(host)
        return host, port, parts.scheme

    def _check_host(self, host: str) -> None:
        if _literal(host) is None:
            last = host.rpartition(".")[2]
            if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", last):  # 2130706433, 0x7f.1, 127.1: some resolvers read them as addresses
                raise AddressRefused(f"{host!r} is an ambiguous spelling of an address")
            if not _HOST.match(host):
                raise AddressRefused(f"{host!r} is not a host name")

    def _allowed(self, host: str, port: int | None) -> bool:
        if self._allowed_by_name(host, port):
            return True
        address = _literal(host)
        return address is not None and self._in_allowed_network(address)

    def _allowed_by_name(self, host: str, port: int | None) -> bool:
        for rule in self.allow:
            if "/" in rule:
                continue
            name, _, allowed_port = rule.rpartition(":") if re.search(r"[^:]:\d+\Z", rule) else (rule, "", "")
            if _covers(name.strip("[]"), host) and (not allowed_port or port is None or int(allowed_port) == port):
                return True
        return False

    def _in_allowed_network(self, address: IpAddress) -> bool:
        for rule in self.allow:
            try:
                network = ipaddress.ip_network(rule, strict=False)
            except ValueError:
                continue
            if address.version == network.version and address in network:
                return True
        return False


def refusal_of_literals(allow: Iterable[str]) -> Callable[[str], str]:
    """Return a function that returns why the spelling of a URL forbids calling it; empty if it does not.

    No provider has a literal address, so one is either in ``network.allow`` or never called.
    """
    policy = NetworkPolicy((), tuple(allow))

    def refusal(url: str) -> str:
        try:
            host, port, _ = policy._parts(url)  # noqa: SLF001  the policy of this module
            ipaddress.ip_address(host.partition("%")[0])
        except AddressRefused as error:
            return error.message
        except ValueError:
            return ""  # a name: only its addresses decide
        return "" if policy._allowed(host, port) else f"{host} is an address, and not in network.allow"  # noqa: SLF001  the policy of this module

    return refusal


def is_global(address: IpAddress) -> bool:
    """Whether ``address`` is public; v4-mapped, NAT64 and tunnel forms are not, because they contain another address."""
    if isinstance(address, ipaddress.IPv6Address):
        return address in _GLOBAL_V6 and not any(address in network for network in _HIDING_V6) and address.is_global
    return address.is_global and not address.is_multicast


def _literal(host: str) -> IpAddress | None:
    """Return ``host`` as an address; None for a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _never_by_name(address: IpAddress) -> bool:
    plain = address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address
    return any(plain in network for network in _NEVER if network.version == plain.version)


def _covers(pattern: str, host: str) -> bool:
    """Whether ``pattern`` names ``host``: ``*`` is one label, ``eu-*`` one label that begins so."""
    wanted, labels = pattern.lower().rstrip(".").split("."), host.lower().rstrip(".").split(".")
    return len(wanted) == len(labels) and all(map(_label_covers, wanted, labels))


def _label_covers(pattern: str, label: str) -> bool:
    return label.startswith(pattern[:-1]) and label != "" if pattern.endswith("*") else pattern == label
