"""Reads that several resources of one pass need, made once: which projects there are, who is a member.

A driver keeps no state. What is found here lives as long as the client that the engine made for one pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

from reconciler.drivers.base import Api, ApiResponse, Connection

T = TypeVar("T")


class PassApi:
    """An `Api` for one pass. Implements `reconciler.drivers.base.Api`."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._found: dict[str, asyncio.Task[Any]] = {}

    @property
    def connection(self) -> Connection:
        """What it is bound to."""
        return self._api.connection

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        ok: frozenset[int] = frozenset(),
    ) -> ApiResponse:
        """Send one request; see `reconciler.drivers.base.Api.request`."""
        return await self._api.request(method, path, params=params, json=json, headers=headers, ok=ok)

    async def download(self, path: str) -> ApiResponse:
        """Return what ``path`` is redirected to; see `reconciler.drivers.base.Api.download`."""
        return await self._api.download(path)

    async def once(self, key: str, read: Callable[[], Awaitable[T]]) -> T:
        """Return what ``read`` found for ``key``, or raise what it raised; a second call does not read again."""
        if key not in self._found:
            self._found[key] = asyncio.ensure_future(cast("Any", read()))
        return cast("T", await self._found[key])


async def once(api: Api, key: str, read: Callable[[], Awaitable[T]]) -> T:
    """Return what ``read`` finds: once for ``key`` with the client of a pass, each time with any other."""
    return await api.once(key, read) if isinstance(api, PassApi) else await read()
