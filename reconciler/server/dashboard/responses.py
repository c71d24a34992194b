"""Answers of the dashboard: security headers, compression, entity tags, and the files of the style sheet and the script."""

from __future__ import annotations

import gzip
import hashlib
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with no-referrer, browsers would send forms with the origin `null`
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_PRIVATE = {"cache-control": "no-store", "vary": "cookie, accept-encoding"}
_FOREVER = {"cache-control": "public, max-age=31536000, immutable", "vary": "accept-encoding"}
MIN_GZIP = 1_024
LEVEL = 5
"""Half the time of level 9, for 2 % more bytes."""
TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


def page(request: Request, text: str, status: int = 200) -> Response:
    """Return a page, compressed where the browser accepts it; 304 without it if the browser has the same one.

    The page contains the person's form token. Compression beside foreign text would let a third party guess it (BREACH), if its requests
    carried the session cookie; those of other sites do not (SameSite=Strict).
    """
    raw = text.encode("utf-8", "replace")
    tag = f'"{hashlib.sha256(raw).hexdigest()[:24]}"'
    headers = {**HEADERS, **_PRIVATE, "etag": tag}
    known = (each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(","))
    if status == 200 and tag in known:
        return Response(b"", 304, headers)
    if accepts_gzip(request) and len(raw) >= MIN_GZIP:
        raw = gzip.compress(raw, LEVEL, mtime=0)
        headers["content-encoding"] = "gzip"
    return Response(raw, status, headers, media_type="text/html; charset=utf-8")


def redirect(place: str) -> Response:
    """Return the answer that sends a browser to ``place`` after a form (303: with a GET)."""
    return Response(b"", 303, {**HEADERS, **_PRIVATE, "location": place})


def accepts_gzip(request: Request) -> bool:
    """Whether the browser takes gzip (RFC 9110, section 12.5.3): ``gzip;q=0`` refuses it."""
    for part in request.headers.get("accept-encoding", "").split(","):
        coding, _, weight = part.partition(";")
        if coding.strip().lower() in {"gzip", "x-gzip", "*"}:
            return weight.replace(" ", "").lower() not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


class StaticFiles:
    """The files of the folder ``static``, read once; their address contains their hash, so that browsers keep them."""

    def __init__(self) -> None:
        folder = files("reconciler.server.dashboard") / "static"
        self._raw = {file.name: file.read_bytes() for file in folder.iterdir() if file.name.rpartition(".")[2] in TYPES}
        self._packed = {name: gzip.compress(raw, 9, mtime=0) for name, raw in self._raw.items()}

    def address(self, name: str) -> str:
        """Return the path of a file below the root of the dashboard."""
        return f"/static/{name}?v={hashlib.sha256(self._raw[name]).hexdigest()[:12]}"

    def answer(self, request: Request) -> Response:
        """Return the file that a request names."""
        name = str(request.path_params["name"])
        raw = self._raw.get(name)
        if raw is None:
            return Response(b"", 404, HEADERS)
        headers = {**HEADERS, **_FOREVER}
        if accepts_gzip(request):
            raw, headers["content-encoding"] = self._packed[name], "gzip"
        return Response(raw, 200, headers, media_type=TYPES[name.rpartition(".")[2]])
