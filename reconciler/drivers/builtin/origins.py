"""URLs out of manifests: the origin that a client is bound to, the path that is asked for, and what of them may be shown. Pure."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from reconciler.drivers.base import Connection
from reconciler.model.errors import ValidationFailed
from reconciler.model.resources import ResourceId

PROVIDER = "http"
_PORTS = {"https": 443, "http": 80}


def connection_to(url: str, owner_resource: ResourceId) -> Connection:
    """Return a connection without a credential to the origin of ``url``, in the name of ``owner_resource``.

    Raises `ValidationFailed` for what is no http(s) URL, or has a user name or password in it.
    """
    origin = origin_of(url)
    return Connection(owner_resource, PROVIDER, origin, origin, "", {"use": "none"})


def origin_of(url: str) -> str:
    """Return scheme, host and port of ``url``, the scheme's own port left out (RFC 6454 §4). Raises `ValidationFailed`."""
    parts = _split(url)
    host = parts.hostname or ""
    name = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, _PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{name}{port}"


def require_written_out(written: str, url: str) -> None:
    """Raise `ValidationFailed` unless scheme, host and port of ``url`` stand in the manifest as they are: ``written``, in which
    templates are not replaced. Validation refuses such a manifest; one that was accepted by an older version may be in force.
    """
    root = written.partition("${{")[0]
    behind = root.partition("://")[2]
    if root != written and not any(mark in behind for mark in "/?#"):
        raise ValidationFailed("the host of the URL is a template", hint="Write scheme, host and port out in the manifest.")
    if origin_of(root) != origin_of(url):
        raise ValidationFailed("the URL leads to another host than the manifest names")


def path_of(url: str) -> str:
    """Return path and query of ``url``: what is asked of its origin. Raises `ValidationFailed`."""
    parts = _split(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def shown(url: str) -> str:
    """Return ``url`` without query and fragment, as it may be stored and shown. Raises `ValidationFailed`."""
    return origin_of(url) + path_of(url).partition("?")[0]


def _split(url: str) -> SplitResult:
    """Take ``url`` apart; messages repeat nothing of it, since a secret may have been put into it."""
    if not all("!" <= char <= "~" and char != "\\" for char in url):
        raise ValidationFailed("the URL has a character that no URL has", hint="Percent-encode values that are put into a URL.")
    try:
        parts = urlsplit(url)
        readable = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        readable = False
    if not readable:
        raise ValidationFailed("the URL is not http(s)://HOST/…")
    if "@" in parts.netloc:
        raise ValidationFailed("the URL holds a user name or password", hint="Send it in a header, by `${{ secrets.NAME }}`.")
    return parts
