"""Pages of a list: bounded, below our own root and path, each only once.

A server behind a proxy names its internal scheme, host, port or prefix in a Link, so only the query of the next page is used.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeVar
from urllib.parse import urlencode, urlsplit

from reconciler.drivers.base import ApiResponse
from reconciler.drivers.connection import Api
from reconciler.drivers.wire import decode
from reconciler.model.errors import ListTooLarge, ProviderProtocolError

MAX_PAGES = 1_000
_LINK = re.compile(r'<([^<>]*)>\s*((?:;\s*[a-zA-Z]+\s*=\s*(?:"[^"]*"|[^",;\s]+)\s*)*)')
_PARAMETER = re.compile(r';\s*([a-zA-Z]+)\s*=\s*(?:"([^"]*)"|([^",;\s]+))')
_PORTS = {"https": 443, "http": 80}
MAX_LIST_BYTES = 32 << 20
"""All pages of a list that stays in memory: the objects made of them take several times as much."""
MAX_LIST_ITEMS = 100_000
T = TypeVar("T")
NextPage = Callable[[ApiResponse], str | None]


def link_next(response: ApiResponse) -> str | None:
    """Return the URL with ``rel="next"`` of the Link header (RFC 8288), or None."""
    links: list[tuple[str, str]] = _LINK.findall(response.headers.get("link", ""))
    for target, text in links:
        parameters: list[tuple[str, str, str]] = _PARAMETER.findall(text)
        relations = (quoted or plain for name, quoted, plain in parameters if name.lower() == "rel")
        if "next" in next(relations, "").split():
            return target
    return None


def same_host_path(api: Api, url: str) -> str:
    """Return ``url`` as a path below our own API root; raises `ProviderProtocolError` for another host or root."""
    if url.startswith("/"):
        return url
    root = urlsplit(api.connection.api_url)
    try:
        target = urlsplit(url)
        host, port = target.hostname, target.port
    except ValueError:
        raise ProviderProtocolError("the answer contains an invalid URL") from None
    if (host, port or _PORTS.get(target.scheme)) != (root.hostname, root.port or _PORTS.get(root.scheme)):
        raise ProviderProtocolError(f"the answer names another host ({host})")
    base = root.path.rstrip("/")
    if base and not target.path.startswith(base + "/"):
        raise ProviderProtocolError("the answer names a path outside the API root")
    return target.path[len(base) :] + (f"?{target.query}" if target.query else "")


def next_path(path: str, link: str) -> str:
    """Return ``path`` with the query of ``link``, the next page; raises `ProviderProtocolError` for an invalid URL."""
    try:
        query = urlsplit(link).query
    except ValueError:
        raise ProviderProtocolError("the next page has an invalid URL") from None
    return path.partition("?")[0] + (f"?{query}" if query else "")


class ListBound:
    """The limits of one list, over all of its pages; raises `ListTooLarge` beyond them."""

    __slots__ = ("_bytes", "_items", "_max_bytes", "_max_items", "_name")

    def __init__(self, name: str, *, max_bytes: int = MAX_LIST_BYTES, max_items: int = MAX_LIST_ITEMS) -> None:
        self._name, self._max_bytes, self._max_items = name, max_bytes, max_items
        self._bytes = self._items = 0

    def take(self, response: ApiResponse) -> None:
        """Count the bytes of a page."""
        self._bytes += len(response.content)
        if self._bytes > self._max_bytes:
            raise self._too_large(f"the pages of this list have more than {self._max_bytes >> 20} MiB")

    def count(self, items: int) -> None:
        """Count the items of a page."""
        self._items += items
        if self._items > self._max_items:
            raise self._too_large(f"this list has more than {self._max_items} items")

    def _too_large(self, problem: str) -> ListTooLarge:
        return ListTooLarge(
            f"GET {self._name}: {problem}",
            request=f"GET {self._name}",
            hint="Delete unneeded objects at the provider, or name fewer targets in the manifest.",
        )


async def paginate(
    api: Api,
    path: str,
    *,
    params: Mapping[str, str | int] | None = None,
    next_page: NextPage = link_next,
    max_pages: int = MAX_PAGES,
    bound: ListBound | None = None,
) -> AsyncIterator[ApiResponse]:
    """Yield every page of a list. Raises `ProviderProtocolError` for a circle or more than ``max_pages`` pages, and
    `ListTooLarge` beyond ``bound`` (default: `MAX_LIST_BYTES`).
    """
    seen = {path, f"{path}?{urlencode(params)}" if params else path}
    bound = bound or ListBound(path.partition("?")[0])
    for _ in range(max_pages):
        response = await api.request("GET", path, params=params)
        bound.take(response)
        yield response
        link = next_page(response)
        if link is None:
            return
        path, params = next_path(path, link), None
        if path in seen:
            raise ProviderProtocolError("the pages of the list form a circle")
        seen.add(path)
    raise ProviderProtocolError(f"the list has more than {max_pages} pages")


async def read_list(
    api: Api,
    path: str,
    kind: type[list[T]],
    *within: str,
    params: Mapping[str, str | int] | None = None,
    next_page: NextPage = link_next,
) -> list[T]:
    """Return the rows of all pages of a list, which in each answer is at ``within``; see `paginate`.

    Raises `ProviderProtocolError` for any other answer.
    """
    rows: list[T] = []
    name = path.partition("?")[0]
    bound = ListBound(name)
    async for response in paginate(api, path, params=params, next_page=next_page, bound=bound):
        page = decode(response.json(), kind, f"GET {name}", *within)
        bound.count(len(page))
        rows += page
    return rows
