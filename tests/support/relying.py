"""The daemon's own OIDC issuer for tests of relying parties: its keys in memory, its two documents over HTTP on loopback."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson

from reconciler.credentials.id_tokens import IdTokenIssuer, IssuerSettings
from reconciler.credentials.issuer import (
    DISCOVERY_PATH,
    KEYS_PATH,
    IssuerKey,
    Lifetimes,
    discovery_document,
    key_set,
    new_key,
    sign,
    unseal,
)
from reconciler.credentials.keys import KeyRing, MasterKey
from reconciler.credentials.redact import Redactor
from reconciler.model.records import AuditEntry
from reconciler.model.values import JsonValue

ISSUER = "https://reconciler.example/ci"


class Keys:
    """A `reconciler.credentials.id_tokens.KeyStore` in memory."""

    def __init__(self) -> None:
        self.rows: tuple[IssuerKey, ...] = ()

    async def oidc_keys(self) -> tuple[IssuerKey, ...]:
        return self.rows

    async def add_oidc_key(self, key: IssuerKey, *, revoke: float | None, audit: AuditEntry) -> bool:
        self.rows = (*(dataclasses.replace(row, revoked_at=revoke) for row in self.rows), key)
        return True

    async def reseal_oidc_keys(self, keys: Sequence[IssuerKey]) -> None:
        self.rows = tuple(keys)


class Issuing:
    """The issuer and what it publishes: ``url`` is where its documents are."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.ring, self.store = KeyRing(MasterKey(b"k" * 32)), Keys()
        self.clock, self.url = clock, ""
        self.published = True
        settings = IssuerSettings(ISSUER, "team-a", Lifetimes(90 * 86_400.0, 600.0), "test")
        self.issuer = IdTokenIssuer(
            settings, store=self.store, ring=self.ring, redactor=Redactor(), fetch=self._fetch, clock=clock
        )
        asyncio.run(self.issuer.keys())

    async def _fetch(self, url: str) -> object:
        raise AssertionError(url)

    def document(self, path: str) -> Mapping[str, JsonValue] | None:
        if not self.published:
            return None
        return {DISCOVERY_PATH: discovery_document(ISSUER), KEYS_PATH: key_set(self.store.rows)}.get(path)

    def token(self, **claims: JsonValue) -> str:
        """Return a token with any ``claims``, signed by the issuer's key: to make wrong ones. None leaves a claim out."""
        now = int(self.clock())
        whole: dict[str, JsonValue] = {
            "iss": ISSUER,
            "sub": "s",
            "aud": "a",
            "iat": now,
            "nbf": now,
            "exp": now + 600,
            "jti": "1",
        }
        key = self.store.rows[-1]
        both = {name: value for name, value in {**whole, **claims}.items() if value is not None}
        return sign(both, key, unseal(key, self.ring)).reveal()

    def foreign(self, **claims: JsonValue) -> str:
        """Return a token with the issuer's kid, signed by a key of somebody else."""
        mine = self.store.rows[-1]
        other = new_key(9, self.ring, self.clock(), 0.0)
        claimed = dataclasses.replace(other, kid=mine.kid)
        now = int(self.clock())
        return sign({"iss": ISSUER, "iat": now, "exp": now + 600, **claims}, claimed, unseal(other, self.ring)).reveal()


@contextmanager
def issuing(clock: Callable[[], float] = time.time) -> Iterator[Issuing]:
    """Serve a new issuer's documents."""
    made = Issuing(clock)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = made.document(self.path)
            body = orjson.dumps(found)
            self.send_response(200 if found is not None else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
