"""A simulated New Relic: NerdGraph's ``actor``, for the keys of one region.

Facts: New Relic's GraphQL API and its Go client. State: ``tokens`` (``{KEY: {"user": {"id", "email", "name"}, "accounts": [{"id",
"name"}], "region": "us"}}``). The setting ``region`` is the simulator's own: a key of another region is refused like a wrong one.
``error_class`` makes every answer a 200 with ``errors``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypedDict, cast

from reconciler.sandbox.app import Call, RefusedCall, Reply, Route, Simulator
from reconciler.sandbox.shapes import is_object

TOKEN = "NRAK-" + "SANDBOX" + "0" * 20  # opens nothing but this simulator
_QUERY = re.compile(r"\s*(?:query\s*\w*\s*)?\{\s*actor\s*\{\s*user\s*\{([\w\s]+)\}\s*accounts\s*\{([\w\s]+)\}\s*\}\s*\}\s*")
_USER, _ACCOUNT = frozenset({"id", "email", "name"}), frozenset({"id", "name"})


def _failure(status: int, message: str, error_class: str = "") -> Reply:
    extensions = {"extensions": {"errorClass": error_class}} if error_class else {}
    return Reply(status, {"errors": [{"message": message, **extensions}]})


class NewRelicKey(TypedDict):
    """A user key: whose it is, and what it reaches."""

    user: dict[str, object] | None
    accounts: list[dict[str, object]]
    region: str


class NewRelicRecords(TypedDict):
    """The whole state."""

    tokens: dict[str, NewRelicKey]


class NewRelic(Simulator):
    """Implements `reconciler.sandbox.app.Simulator`."""

    provider = "newrelic"
    defaults: Mapping[str, object] = {"region": "us", "error_class": ""}

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock=clock)

    @property
    def records(self) -> NewRelicRecords:
        """The state, by type."""
        return cast("NewRelicRecords", self.state)

    def seed(self) -> dict[str, object]:
        user = {"id": 1001, "email": "ops@example.com", "name": "Ops"}
        return {"tokens": {TOKEN: {"user": user, "accounts": [{"id": 4711, "name": "Production"}], "region": "us"}}}

    def routes(self) -> Iterable[Route]:
        return [("POST", "/graphql", self._query)]

    def before(self, call: Call) -> None:
        key = self.records["tokens"].get(call.headers.get("api-key", ""))
        if key is None or key["region"] != self.settings["region"]:
            raise RefusedCall(_failure(401, "The API key provided is invalid"))

    def _query(self, call: Call) -> Reply:
        if "application/json" not in call.headers.get("content-type", ""):
            return _failure(415, "Unsupported media type")
        try:
            body = call.json()
        except ValueError:
            body = None
        query = body.get("query") if is_object(body) else None
        match = _QUERY.fullmatch(query) if isinstance(query, str) else None
        if match is None or not _USER.issuperset(match[1].split()) or not _ACCOUNT.issuperset(match[2].split()):
            return _failure(200, "Cannot query a field of this schema", "BAD_USER_INPUT")
        if self.settings["error_class"]:
            return _failure(200, "the request failed", str(self.settings["error_class"]))
        key = self.records["tokens"][call.headers["api-key"]]
        user = {name: key["user"].get(name) for name in match[1].split()} if key["user"] is not None else None
        accounts = [{name: row.get(name) for name in match[2].split()} for row in key["accounts"]]
        return Reply(200, {"data": {"actor": {"user": user, "accounts": accounts}}})
