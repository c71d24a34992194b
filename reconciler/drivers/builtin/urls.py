"""URLs from manifests, and the connection to the origin of one."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from reconciler.drivers.connection import Connection
from reconciler.model.errors import ValidationFailed
from reconciler.model.resources import ResourceId

PROVIDER = "http"
_PORTS = {"https": 443, "http": 80}


def connection_to(url: str, owner_resource: ResourceId) -> Connection:
    """Return a connection without a credential to the origin of ``url``, on behalf of ``owner_resource``.

    Raises `ValidationFailed` for a URL that is not http(s), or contains a user name or password.
    """
    origin = origin_of(url)
    return Connection(owner_resource, PROVIDER, origin, origin, "", {"use": "none"})


def origin_of(url: str) -> str:
    """Return scheme, host and port of ``url``, without the default port (RFC 6454 §4). Raises `ValidationFailed`."""
    parts = _split(url)
    host = parts.hostname or ""
    name = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, _PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{name}{port}"


def require_written_out(written: str, url: str) -> None:
    """Raise `ValidationFailed` unless scheme, host and port of ``url`` are literal in ``written``, the manifest's URL with its
    templates. Validation refuses such a manifest; one that an older version accepted may still be active.
    """
    root = written.partition("${{")[0]
    behind = root.partition("://")[2]
    if root != written and not any(mark in behind for mark in "/?#"):
        raise ValidationFailed("the host of the URL is a template", hint="Write scheme, host and port out in the manifest.")
    if origin_of(root) != origin_of(url):
        raise ValidationFailed("the URL has another host than the manifest")


def path_of(url: str) -> str:
    """Return path and query of ``url``. Raises `ValidationFailed`."""
    parts = _split(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def shown(url: str) -> str:
    """Return ``url`` without query and fragment, to store and show. Raises `ValidationFailed`."""
    return origin_of(url) + path_of(url).partition("?")[0]


def _split(url: str) -> SplitResult:
    """Parse ``url``; messages do not quote it, since it may contain a secret."""
    if not all("!" <= char <= "~" and char != "\\" for char in url):
        raise ValidationFailed("the URL has an invalid character", hint="Percent-encode values in a URL.")
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValidationFailed("the URL is not http(s)://HOST/…")
    if "@" in parts.netloc:
        raise ValidationFailed("the URL contains a user name or password", hint="Send it in a header with `${{ secrets.NAME }}`.")
    return parts


__all__ = ["PROVIDER", "connection_to", "origin_of", "path_of", "require_written_out", "shown"]
