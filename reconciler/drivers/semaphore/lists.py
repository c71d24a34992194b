"""Lists of the gateway (page tokens) and of projecthub (numbered pages), and the shape of what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from reconciler.drivers.base import Api, ApiResponse
from reconciler.drivers.http.paging import ListBound, paginate
from reconciler.model.errors import OutcomeUnknown, ProviderProtocolError

MAX_PROJECT_PAGES = 100
"""The provider's own bound (500 projects a page)."""


async def list_all(api: Api, path: str, field: str, *, page_size: int) -> list[Mapping[str, Any]]:
    """Return every item of the list at ``path``; raises `ProviderProtocolError` for an answer that is no such list."""

    def following(response: ApiResponse) -> str | None:
        token = _object(response, path).get("next_page_token") or ""
        return f"{path}?page_size={page_size}&page_token={quote(str(token), safe='')}" if token else None

    items: list[Mapping[str, Any]] = []
    bound = ListBound(path)
    async for response in paginate(api, f"{path}?page_size={page_size}", next_page=following, bound=bound):
        page = _object(response, path).get(field)
        if not isinstance(page, list) or not all(is_item(item) for item in page):
            raise ProviderProtocolError(
                f"GET {path}: the list has no '{field}' of objects with id and name", request=f"GET {path}"
            )
        bound.count(len(page))
        items += page
    return items


async def projects(api: Api) -> list[Mapping[str, Any]]:
    """Return all projects that the token may view, by name. A page may be short, or empty, and others follow."""
    found: dict[str, Mapping[str, Any]] = {}
    bound = ListBound("/api/v1alpha/projects")
    for number in range(1, MAX_PROJECT_PAGES + 1):
        response = await api.request("GET", "/api/v1alpha/projects", params={"page": number})
        bound.take(response)
        page = response.json()
        if not isinstance(page, list):
            raise ProviderProtocolError("GET /api/v1alpha/projects: not a list", request="GET /api/v1alpha/projects")
        bound.count(len(page))
        found.update((str(item["metadata"]["name"]), item) for item in page if is_item(item))
        if response.headers.get("x-has-more") != "true":
            return [found[name] for name in sorted(found)]
    raise ProviderProtocolError(
        f"GET /api/v1alpha/projects: more than {MAX_PROJECT_PAGES} pages",
        request="GET /api/v1alpha/projects",
        hint="Semaphore shows no further pages; use an integration whose token sees fewer projects.",
    )


async def project_names(api: Api) -> list[str]:
    """Return the names of all projects that the token may view, sorted."""
    return [str(item["metadata"]["name"]) for item in await projects(api)]


def written(response: ApiResponse, request: str) -> Mapping[str, Any]:
    """Return the object that a write was answered with.

    Raises `OutcomeUnknown` for another answer: the write was accepted, so that it must be looked up and not refused.
    """
    try:
        item = response.json()
    except ProviderProtocolError:
        item = None
    if not is_item(item):
        raise OutcomeUnknown(f"{request}: accepted, and the answer is not understood; the object is looked up", request=request)
    return item  # type: ignore[no-any-return]


def is_item(item: Any) -> bool:
    """Whether ``item`` is an object with ``metadata.id`` and ``metadata.name``."""
    metadata = item.get("metadata") if isinstance(item, Mapping) else None
    return isinstance(metadata, Mapping) and all(isinstance(metadata.get(key), str) and metadata[key] for key in ("id", "name"))


def _object(response: ApiResponse, path: str) -> Mapping[str, Any]:
    body = response.json()
    if not isinstance(body, Mapping):
        raise ProviderProtocolError(f"GET {path}: not an object", request=f"GET {path}")
    return body
