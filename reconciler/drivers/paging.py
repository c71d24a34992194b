"""Pages of a list: bounded, on our own host, each only once."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from reconciler.drivers.base import Api, ApiResponse
from reconciler.model.errors import ProviderProtocolError

MAX_PAGES = 1_000
_LINK = re.compile(r'<([^<>]*)>\s*((?:;\s*[a-zA-Z]+\s*=\s*(?:"[^"]*"|[^",;\s]+)\s*)*)')
_REL = re.compile(r'rel\s*=\s*"?([^";]*)"?')
NextPage = Callable[[ApiResponse], str | None]


def link_next(response: ApiResponse) -> str | None:
    """Return the URL with ``rel="next"`` of the Link header (RFC 8288), or None."""
    for target, parameters in _LINK.findall(response.headers.get("link", "")):
        rel = _REL.search(parameters)
        if rel is not None and "next" in rel.group(1).split():
            return str(target)
    return None


def same_host_path(api: Api, url: str) -> str:
    """Return ``url`` as a path on our own API root; raises `ProviderProtocolError` for another host.

    Scheme and host of the answer are never trusted: only its path and query are used.
    """
    if url.startswith("/"):
        return url
    root, target = urlsplit(api.connection.api_url), urlsplit(url)
    if (target.hostname, target.port) != (root.hostname, root.port):
        raise ProviderProtocolError(f"the next page lies on another host ({target.hostname})")
    path = target.path
    if root.path and path.startswith(root.path.rstrip("/") + "/"):
        path = path[len(root.path.rstrip("/")):]
    return path + (f"?{target.query}" if target.query else "")


async def paginate(api: Api, path: str, *, params: Mapping[str, str | int] | None = None, headers: Mapping[str, str] | None = None,
                   next_page: NextPage = link_next, max_pages: int = MAX_PAGES, **options: Any) -> AsyncIterator[ApiResponse]:
    """Yield every page of a list. Raises `ProviderProtocolError` on a loop, another host, or more than ``max_pages`` pages."""
    seen = {path}
    for _ in range(max_pages):
        response = await api.request("GET", path, params=params, headers=headers, **options)
        yield response
        following = next_page(response)
        if following is None:
            return
        path, params = same_host_path(api, following), None
        if path in seen:
            raise ProviderProtocolError("the list's pages run in a circle")
        seen.add(path)
    raise ProviderProtocolError(f"the list has more than {max_pages} pages")
