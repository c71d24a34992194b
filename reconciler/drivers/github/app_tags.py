"""ETags of GitHub under another token, so that an App's hourly token does not cost a whole answer for each repository.

GitHub does not document its ETag. It is observed (github.com/bored-engineer/github-conditional-http-transport, 2025) to be the SHA-256
of the request's ``Accept``, ``Authorization`` and ``Cookie``, those that it has, each with a colon, and of the body before compression.
With the body kept, the tag under a new token is computed. A wrong guess matches nothing and costs one whole answer; it can never
pass off a changed list as unchanged.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import OrderedDict
from collections.abc import Mapping

import orjson

from reconciler.drivers.connection import Api
from reconciler.drivers.github.api import ACCEPT
from reconciler.drivers.http.paging import ListBound

MOST_BYTES = 32 << 20
"""Compressed bodies that are kept: some 100,000 lists of one webhook. The least recently used go first."""
MOST_BODY_BYTES = 1 << 20
_WEAK = "W/"


class KnownBodies:
    """The newest bodies by their ETag. In memory only: the URL of a foreign webhook may contain a secret."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self._places: dict[str, str] = {}
        self._most = most_bytes
        self._size = 0

    def keep(self, tag: str, body: bytes, place: str = "") -> None:
        """Keep ``body``, of which ``tag`` is the ETag; `read` returns both for ``place``."""
        key = tag.removeprefix(_WEAK)
        if not key or len(body) > MOST_BODY_BYTES:
            return
        if place:
            former = self._places.get(place, "").removeprefix(_WEAK)
            self._size -= len(self._bodies.pop(former, b""))
            self._places[place] = tag
        self._size -= len(self._bodies.pop(key, b""))
        self._bodies[key] = packed = zlib.compress(body, 1)
        self._size += len(packed)
        while self._size > self._most:
            self._size -= len(self._bodies.popitem(last=False)[1])

    def read(self, place: str) -> tuple[str, bytes] | None:
        """Return the ETag and the body that were kept for ``place`` last; None if there is none."""
        tag = self._places.get(place, "")
        packed = self._bodies.get(tag.removeprefix(_WEAK))
        if packed is None:
            self._places.pop(place, None)
            return None
        return tag, zlib.decompress(packed)

    def tag_under(self, tag: str, authorization: str, accept: str = ACCEPT) -> str:
        """Return the ETag of the body of ``tag`` in a request with ``authorization``; ``tag`` itself if the body is not known."""
        key = tag.removeprefix(_WEAK)
        packed = self._bodies.get(key)
        if packed is None:
            return tag
        self._bodies.move_to_end(key)
        seen = f"{accept}:{authorization}:".encode()
        return f'{_WEAK}"{hashlib.sha256(seen + zlib.decompress(packed)).hexdigest()}"'


BODIES = KnownBodies()
"""Those of this process. They outlive clients; a tag is a hash, so that it means the same body for every Integration."""


def retag(headers: dict[str, str], bodies: KnownBodies = BODIES) -> None:
    """Replace the tag of a conditional request by what it is under the request's own ``authorization``."""
    tag = headers.get("if-none-match", "")
    if tag:
        headers["if-none-match"] = bodies.tag_under(tag, headers["authorization"], headers.get("accept", ACCEPT))


async def read_unchanged(api: Api, path: str, bound: ListBound, bodies: KnownBodies = BODIES) -> object:
    """Return the decoded answer to a GET of ``path``, from memory where GitHub answers that it did not change."""
    connection = api.connection
    key = f"{connection.api_url}|{connection.account}|{connection.credential_id}|{path}"
    known = bodies.read(key)
    answer = await api.request("GET", path, headers={"if-none-match": known[0]} if known is not None else None)
    if answer.status == 304 and known is not None:
        return orjson.loads(known[1])
    bound.take(answer)
    bodies.keep(answer.headers.get("etag", ""), answer.content, key)
    return answer.json()


def keep_bodies(pages: Mapping[str, bytes], bodies: KnownBodies = BODIES) -> None:
    """Keep the bodies of an answer by their ETags."""
    for tag, body in pages.items():
        bodies.keep(tag, body)


__all__ = ["BODIES", "KnownBodies", "keep_bodies", "retag"]
