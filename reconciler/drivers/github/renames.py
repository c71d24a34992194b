"""Repositories and organizations that were renamed: GitHub answers with a redirect to the same path by id."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import urlsplit

from reconciler.drivers.base import Api
from reconciler.model.errors import Moved, ProviderProtocolError

T = TypeVar("T")
_BY_ID = re.compile(r"(?:/(?!repos/|orgs/)[^/]+)*?(/(?:repositories|organizations)/[1-9]\d{0,18})(?=/|\Z)")


def renamed_to(target: str) -> str:
    """Return ``/repositories/ID`` of a redirect's target; empty for any other place.

    A server behind a proxy names its own inner scheme, host, port or prefix there. The id is asked for on our own root all the same.
    """
    try:
        found = _BY_ID.match(urlsplit(target).path)
    except ValueError:
        return ""
    return found.group(1) if found is not None else ""


def by_id(target: str) -> str:
    """Return ``/repositories/ID`` of a redirect; raises `ProviderProtocolError` for any other place."""
    found = renamed_to(target)
    if not found:
        raise ProviderProtocolError("GitHub redirects to a place that is no renamed repository")
    return found


async def following(api: Api, root: str, work: Callable[[str], Awaitable[T]]) -> T:
    """Return what ``work`` does below ``root`` (``/repos/acme/web``), or below where that was renamed to.

    A request that is redirected has done nothing, so that ``work`` may begin again: its first request tells.
    """
    try:
        return await work(root)
    except Moved as moved:
        return await work(by_id(moved.target))
