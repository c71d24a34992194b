"""Repositories and organizations that were renamed: GitHub answers with a redirect to the same path by id."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

from reconciler.drivers.base import Api
from reconciler.drivers.paging import same_host_path
from reconciler.model.errors import Moved, ProviderProtocolError

T = TypeVar("T")
_BY_ID = re.compile(r"^/(?:repositories|organizations)/\d+(?=/|$)")


def by_id(api: Api, target: str) -> str:
    """Return ``/repositories/ID`` of a redirect; raises `ProviderProtocolError` for any other place."""
    found = _BY_ID.match(same_host_path(api, target).partition("?")[0])
    if found is None:
        raise ProviderProtocolError("GitHub redirects to a place that is no renamed repository")
    return found.group(0)


async def following(api: Api, root: str, work: Callable[[str], Awaitable[T]]) -> T:
    """Return what ``work`` does below ``root`` (``/repos/acme/web``), or below where that was renamed to.

    A request that is redirected has done nothing, so that ``work`` may begin again: its first request tells.
    """
    try:
        return await work(root)
    except Moved as moved:
        return await work(by_id(api, moved.target))
