"""Checks across configuration values. Pure; a value that may hold a secret is never repeated."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit

from reconciler.config.settings import Config

MAX_ISSUER = 255
"""The smallest limit of the relying parties (`reconciler.drivers.trust`)."""
MIN_KEY_ROTATION_S = 2 * 86_400
MIN_TOKEN_S, MAX_TOKEN_S = 60, 3600
MAX_CHECK = 100
MIN_EXPORT_S, MAX_EXPORT_S = 1, 60
MIN_REVIEW_S, MIN_SWEEP_S = 1, 1

_OWNER = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}")
_INTEGRATION = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,250})(?:@[a-z0-9](?:[a-z0-9.-]{0,250}))?")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}", re.ASCII)
_FRAMING = frozenset({"host", "content-length", "content-type", "content-encoding", "transfer-encoding", "connection"})
_RULE = re.compile(
    r"(?:\[(?P<bracketed>[0-9A-Fa-f:.]+)\]|(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)(?::\d{1,5})?", re.ASCII
)


def check(config: Config) -> Iterator[tuple[str, str]]:
    """Yield (key, problem)."""
    if not _OWNER.fullmatch(config.owner):
        yield "owner", f"{config.owner!r} is not lower-case letters, digits and dashes (32 at most)"
    yield from _source(config)
    yield from _server(config)
    yield from _login(config)
    yield from _oidc(config)
    yield from _network(config)
    yield from _review(config)
    yield from _telemetry(config)
    yield from _times(config)
    if not config.state.url.startswith(("sqlite:////", "postgresql+psycopg://")) or config.state.url.endswith(":memory:"):
        yield "state.url", "must be sqlite:///PATH or postgresql+psycopg://…"
    if not config.secrets.folder:
        yield "secrets.folder", "must name a folder"
    for name, path in (("status.file", config.status.file), ("masterKey.file", config.master_key.file)):
        if not path:
            yield name, "must name a file"
    if config.master_key.previous_file and config.master_key.previous_file == config.master_key.file:
        yield "masterKey.previousFile", "must not be the file of the key in force"


def _source(config: Config) -> Iterator[tuple[str, str]]:
    source = config.source
    parts = _split(source.url)
    if parts is None:
        yield "source.url", "not a URL"
    elif "@" in parts.netloc and (parts.scheme != "ssh" or parts.password is not None):
        yield "source.url", "must not hold a user name or a token; put it into a file and name that in source.auth.tokenFile"
    if not source.branch:
        yield "source.branch", "must name a branch"
    if (
        source.verify.mode or source.verify.principals or source.verify.revocation_file
    ) and not source.verify.allowed_signers_file:
        yield "source.verify.allowedSignersFile", "is required where signatures are verified"


def _server(config: Config) -> Iterator[tuple[str, str]]:
    host, _, port = config.server.listen.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if (
        not (port.isascii() and port.isdigit() and int(port[:6]) <= 65_535)
        or (bare == host and ":" in host)
        or not (_address(bare) or _HOST.fullmatch(bare))
    ):
        yield "server.listen", f"{config.server.listen!r} is not host:port (an IPv6 address in brackets)"
    if config.server.max_body < 1024:
        yield "server.maxBody", "must be at least 1KiB"
    url = config.server.public_url
    parts = _split(url)
    if not url:
        return
    if (
        parts is None
        or parts.scheme not in {"https", "http"}
        or not parts.hostname
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        yield "server.publicUrl", "must be https://HOST[/PATH]: no credentials, no query"
    elif parts.scheme == "http" and not _plain_http(parts.hostname, config.network.allow):
        yield (
            "server.publicUrl",
            "must be https, else events travel unencrypted; http is for loopback and hosts of network.allow",
        )


def _login(config: Config) -> Iterator[tuple[str, str]]:
    """Yield what keeps people from logging in by the OIDC provider."""
    login, parts = config.server.login.oidc, _split(config.server.login.oidc.issuer)
    if not login.issuer:
        if login.client_id or login.client_secret_file or login.roles:
            yield "server.login.oidc.issuer", "is required for a login by OIDC"
        return
    if (
        parts is None
        or not parts.hostname
        or parts.scheme not in {"https", "http"}
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        yield "server.login.oidc.issuer", "must be https://HOST[/PATH]: no credentials, no query"
    elif parts.scheme == "http" and not _plain_http(parts.hostname, config.network.allow):
        yield "server.login.oidc.issuer", "must be https; http is for loopback and hosts of network.allow"
    if not login.client_id:
        yield "server.login.oidc.clientId", "is required for a login by OIDC"
    if not login.roles:
        yield "server.login.oidc.roles", "is required for a login by OIDC: without a role each login is rejected"
    if not config.server.public_url:
        yield "server.publicUrl", "is required for a login by OIDC, whose provider sends people back to it"


def _oidc(config: Config) -> Iterator[tuple[str, str]]:
    """Yield what keeps ``oidc.issuer`` from being one: relying parties compare it byte by byte (OpenID Connect Discovery 1.0 §3)."""
    issuer, parts = config.oidc.issuer, _split(config.oidc.issuer)
    if issuer:
        if parts is None or not parts.hostname or parts.scheme not in {"https", "http"}:
            yield "oidc.issuer", "must be https://HOST[/PATH]"
        elif parts.query or parts.fragment or "?" in issuer or "#" in issuer or "@" in parts.netloc:
            yield "oidc.issuer", "must not have credentials, a query or a fragment"
        elif parts.scheme == "http" and not _plain_http(parts.hostname, config.network.allow):
            yield "oidc.issuer", "must be https; http is for loopback and hosts of network.allow"
        elif issuer.endswith("/"):
            yield "oidc.issuer", "must not end with a slash, because relying parties compare it byte by byte"
        elif parts.hostname not in parts.netloc:
            yield "oidc.issuer", "must have its host in lower case, because relying parties compare it byte by byte"
        elif len(issuer) > MAX_ISSUER:
            yield "oidc.issuer", f"must have at most {MAX_ISSUER} characters"
    if config.oidc.key_rotation < MIN_KEY_ROTATION_S:
        yield "oidc.keyRotation", "must be at least 2d, because a new key is published for 24 hours before it signs"
    if not MIN_TOKEN_S <= config.oidc.token_lifetime <= MAX_TOKEN_S:
        yield "oidc.tokenLifetime", "must be from 1m to 1h"


def _review(config: Config) -> Iterator[tuple[str, str]]:
    review = config.review
    if review.repository and not _REPOSITORY.fullmatch(review.repository):
        yield "review.repository", f"{review.repository[:80]!r} is not OWNER/NAME"
    if not review.integration:
        return
    if not _INTEGRATION.fullmatch(review.integration):
        yield "review.integration", f"{review.integration[:80]!r} is not the NAME or NAME@CANVAS of an Integration"
    if not review.check or len(review.check) > MAX_CHECK:
        yield "review.check", f"must have 1 to {MAX_CHECK} characters"
    for key, seconds, least in (("timeout", review.timeout, MIN_REVIEW_S), ("interval", review.interval, MIN_SWEEP_S)):
        if seconds < least:
            yield f"review.{key}", f"must be at least {least}s"
    if not review.repository and "://" not in config.source.url and ":" not in config.source.url.partition("/")[0]:
        yield (
            "review.repository",
            "is required if source.url is a folder: a folder does not name the repository of the pull requests",
        )


def _network(config: Config) -> Iterator[tuple[str, str]]:
    for entry in config.network.allow:
        if not _is_rule(entry):
            yield "network.allow", f"{entry!r} is neither a host name, an address nor a CIDR"
    proxy = _split(config.network.proxy)
    if config.network.proxy and (proxy is None or proxy.scheme not in {"http", "https"} or not proxy.hostname):
        yield "network.proxy", "must be http://HOST:PORT"


def _telemetry(config: Config) -> Iterator[tuple[str, str]]:
    telemetry = config.telemetry
    if not telemetry.enabled:
        return
    parts = _split(telemetry.endpoint)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname or parts.fragment:
        yield "telemetry.endpoint", "must be http(s)://HOST[:PORT]/PATH"
    elif parts.path in {"", "/"}:
        yield "telemetry.endpoint", "must be the whole URL, with its path, which is mostly /v1/traces"
    elif "@" in parts.netloc or parts.query:
        yield "telemetry.endpoint", "must not hold credentials or a query; put a credential into telemetry.headers"
    if not MIN_EXPORT_S <= telemetry.timeout <= MAX_EXPORT_S:
        yield "telemetry.timeout", f"must be from {MIN_EXPORT_S}s to {MAX_EXPORT_S}s"
    if not telemetry.service_name:
        yield "telemetry.serviceName", "must not be empty"
    for number, header in enumerate(telemetry.headers, 1):
        name, _, value = header.partition("=")
        if not _TOKEN.fullmatch(name) or not value.isascii():
            yield "telemetry.headers", f"part {number} is not a valid header"
        elif name.lower() in _FRAMING:
            yield "telemetry.headers", f"part {number}: {name.lower()} cannot be set"
    for host in telemetry.propagate:
        if not _HOST.fullmatch(host.removeprefix("*.")):
            yield "telemetry.propagate", f"{host[:80]!r} is not a host name"


def _times(config: Config) -> Iterator[tuple[str, str]]:
    reconcile = config.reconcile
    if reconcile.retry_min <= 0 or reconcile.retry_max < reconcile.retry_min:
        yield "reconcile.retry.min", "must satisfy 0 < min ≤ max"
    for name, seconds in (
        ("source.interval", config.source.interval),
        ("reconcile.interval", reconcile.interval),
        ("status.heartbeat", config.status.heartbeat),
        ("retention.inbox", config.retention.inbox),
        ("retention.history", config.retention.history),
    ):
        if seconds <= 0:
            yield name, "must be more than 0"
    if not 1 <= reconcile.concurrency <= 1024:
        yield "reconcile.concurrency", "must be a number from 1 to 1024"


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port, parts.hostname
    except ValueError:
        return None
    return parts


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _plain_http(host: str, allow: tuple[str, ...]) -> bool:
    """Whether ``host`` may be reached by http: loopback, or named in ``network.allow`` (its port does not matter here)."""
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    names = {re.sub(r":\d+\Z", "", entry.lower()).strip("[]") for entry in allow if _network_of(entry) is None}
    if host in names or "*." + host.partition(".")[2] in names:
        return True
    networks = [network for entry in allow if (network := _network_of(entry)) is not None]
    return address is not None and any(address.version == network.version and address in network for network in networks)


def _network_of(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return None


def _is_rule(entry: str) -> bool:
    """Whether ``entry`` is a CIDR, address, host or ``*.host``; all but a CIDR also with a port."""
    if _network_of(entry) is not None:
        return True
    match = _RULE.fullmatch(entry)
    return match is not None and (_address(match["bracketed"]) is not None if match["bracketed"] else True)
