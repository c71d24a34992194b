"""What several drivers do alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

from reconciler.drivers.base import Api, ApiResponse, Connection
from reconciler.model.errors import ValidationFailed
from reconciler.model.executions import Run
from reconciler.model.values import JsonObject, JsonValue, is_no_commit


def require_commit(spec: JsonObject) -> None:
    """Raise `ValidationFailed` where ``spec`` (an intent's) asks for a run on zeros: what Git writes for a ref that was deleted."""
    for field in ("ref", "branch", "tag", "revision"):
        if is_no_commit(spec.get(field)):
            raise ValidationFailed(
                f"`{field}` is {spec[field][:12]}…, which is no commit: the branch or tag was deleted",
                hint="Leave events of deleted refs out with a filter: `!$.deleted`.",
            )


class NoJobToken:
    """Part of an `Executor` whose jobs have no token that names their run: outputs cannot be pushed."""

    def matches_job_token(self, claims: Mapping[str, Any], run: Run) -> bool:
        """Never."""
        return False

    def expects(self, run: Run) -> Mapping[str, tuple[str, ...]]:
        """There is no token."""
        return {}

    def issuer(self, api: Api) -> str:
        """There is none."""
        return ""


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


def only_shown(normal: JsonValue, raw: JsonValue) -> JsonValue:
    """Return ``normal`` (the normal form of ``raw``) without the fields that ``raw`` does not have.

    A field that is null stays, with the value that null means in the normal form.
    """
    if isinstance(normal, Mapping) and isinstance(raw, Mapping):
        return {key: only_shown(value, raw[key]) for key, value in normal.items() if key in raw}
    return normal
