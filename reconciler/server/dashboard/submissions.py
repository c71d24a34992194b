"""Forms as browsers send them: their fields, and the one that is sent twice, as by a double click without JavaScript."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl

from starlette.requests import Request

from reconciler.model.errors import ReconcilerError
from reconciler.server.api.errors import Invalid
from reconciler.server.api.requests import read_body

MAX_FORM = 32 << 10
MAX_FIELDS = 20
TWICE_S = 2.0
"""A person who means it twice takes longer."""


async def form_fields(request: Request) -> dict[str, str]:
    """Return the fields of a form. Raises `Invalid` if it is none, is too large, or names a field twice."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Invalid("the body is not a form", status=415)
    raw = await read_body(request)
    if len(raw) > MAX_FORM:
        raise Invalid(f"the form is larger than {MAX_FORM} bytes", status=413)
    try:
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        raise Invalid("the form cannot be read", status=400) from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise Invalid("a field of the form is given twice", status=400)
    return fields


class Submissions:
    """The newest forms of this process: each runs once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._newest: dict[object, tuple[float, asyncio.Future[None]]] = {}

    async def once(self, person: str, action: str, fields: Mapping[str, str], run: Callable[[], Awaitable[None]]) -> bool:
        """Run a form; False if the same one was sent just before, and its run is what counts. Raises what ``run`` raises."""
        now = self._clock()
        for key in [key for key, (begun, task) in self._newest.items() if now - begun > TWICE_S and task.done()]:
            del self._newest[key]
        key = (person, action, tuple(sorted(fields.items())))
        known = self._newest.get(key)
        if known is not None:
            await asyncio.shield(known[1])
            return False
        task = asyncio.ensure_future(run())
        self._newest[key] = (now, task)
        try:
            await asyncio.shield(task)
        except ReconcilerError:
            self._newest.pop(key, None)  # after an error, trying again is meant
            raise
        return True


__all__ = ["Submissions", "form_fields"]
