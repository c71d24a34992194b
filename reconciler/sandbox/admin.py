"""Steering a simulator from outside: the ``/_sandbox/`` paths, and a small synchronous client for them.

| path | methods |
|---|---|
| ``/_sandbox/requests`` | GET the log (``?path=regex&method=``), DELETE it |
| ``/_sandbox/faults`` | GET, POST one (fields of `reconciler.sandbox.app.Fault`), DELETE all |
| ``/_sandbox/settings`` | GET, PATCH |
| ``/_sandbox/state`` | GET, PUT (merged; ``?replace=1`` replaces) |
| ``/_sandbox/reset`` | POST |
| ``/_sandbox/do/NAME`` | POST what else the simulator can do (`Simulator.actions`): rename a repository, send an event |
"""

from __future__ import annotations

import dataclasses
import http.client
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from reconciler.sandbox.app import Call, Reply, Simulator
from reconciler.sandbox.shapes import is_object

PREFIX = "/_sandbox/"


def handle(app: Simulator, call: Call) -> Reply:
    """Answer a request below ``/_sandbox/``."""
    name = call.path.removeprefix(PREFIX)
    handler = _do if call.method == "POST" and name.startswith("do/") else _HANDLERS.get((call.method, name))
    if handler is None:
        return Reply(404, {"message": "no such sandbox path"})
    app.base_url = call.base_url or app.base_url
    try:
        return handler(app, call)
    except (LookupError, ValueError, TypeError, re.error) as error:
        return Reply(400, {"message": str(error)})


def _requests(app: Simulator, call: Call) -> Reply:
    method, path = call.query.get("method"), re.compile(call.query.get("path", ""))
    rows = [row for row in app.requests() if path.search(row["path"]) and method in (None, row["method"])]
    return Reply(200, {"requests": rows, "received": app.received})


def _clear(app: Simulator, _call: Call) -> Reply:
    app.log.clear()
    app.received = 0
    return Reply(204)


def _faults(app: Simulator, _call: Call) -> Reply:
    return Reply(200, {"faults": [dataclasses.asdict(fault) for fault in app.faults]})


def _add_fault(app: Simulator, call: Call) -> Reply:
    return Reply(201, dataclasses.asdict(app.add_fault(**_object(call))))


def _drop_faults(app: Simulator, _call: Call) -> Reply:
    app.faults.clear()
    return Reply(204)


def _settings(app: Simulator, _call: Call) -> Reply:
    return Reply(200, app.settings)


def _patch_settings(app: Simulator, call: Call) -> Reply:
    app.patch_settings(_object(call))
    return Reply(200, app.settings)


def _state(app: Simulator, _call: Call) -> Reply:
    return Reply(200, app.state)


def _put_state(app: Simulator, call: Call) -> Reply:
    app.put_state(_object(call), replace=call.query.get("replace") == "1")
    return Reply(204)


def _reset(app: Simulator, _call: Call) -> Reply:
    app.reset()
    return Reply(204)


def _do(app: Simulator, call: Call) -> Reply:
    return Reply(200, {"result": app.actions()[call.path.removeprefix(PREFIX + "do/")](_object(call))})


def _object(call: Call) -> dict[str, object]:
    value = call.json()
    if not is_object(value):
        raise TypeError("the body must be a JSON object")
    return value


_HANDLERS: Mapping[tuple[str, str], Callable[[Simulator, Call], Reply]] = {
    ("GET", "requests"): _requests,
    ("DELETE", "requests"): _clear,
    ("GET", "faults"): _faults,
    ("POST", "faults"): _add_fault,
    ("DELETE", "faults"): _drop_faults,
    ("GET", "settings"): _settings,
    ("PATCH", "settings"): _patch_settings,
    ("GET", "state"): _state,
    ("PUT", "state"): _put_state,
    ("POST", "reset"): _reset,
}


class Admin:
    """A synchronous client of one simulator's ``/_sandbox/`` paths. Raises `RuntimeError` on a refusal."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port

    def requests(self, path: str = "", method: str = "") -> list[dict[str, Any]]:
        """Return logged requests, oldest first; ``path`` is a regular expression."""
        query = urlencode({k: v for k, v in (("path", path), ("method", method)) if v}, quote_via=quote)
        return list(self._call("GET", f"requests?{query}")["requests"])

    def clear_requests(self) -> None:
        """Empty the log."""
        self._call("DELETE", "requests")

    def fault(self, **options: Any) -> dict[str, Any]:
        """Add a fault; ``options`` are fields of `reconciler.sandbox.app.Fault`."""
        return dict(self._call("POST", "faults", options))

    def clear_faults(self) -> None:
        """Remove all faults."""
        self._call("DELETE", "faults")

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Change settings, if any are given; return all."""
        return dict(self._call("PATCH", "settings", changes))

    def state(self) -> dict[str, Any]:
        """Return the whole state."""
        return dict(self._call("GET", "state"))

    def put_state(self, patch: Mapping[str, Any], *, replace: bool = False) -> None:
        """Merge into the state, or replace it."""
        self._call("PUT", "state?replace=1" if replace else "state", dict(patch))

    def do(self, name: str, **options: Any) -> Any:
        """Make something happen at the provider; see `Simulator.actions`."""
        return self._call("POST", f"do/{name}", options)["result"]

    def reset(self) -> None:
        """Reset state, settings, faults and log."""
        self._call("POST", "reset")

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=30)
        try:
            content = None if body is None else orjson.dumps(body)
            connection.request(method, PREFIX + path, body=content, headers={"content-type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise RuntimeError(f"the sandbox refused {method} {path}: {text.decode('utf-8', 'replace')[:500]}")
        return orjson.loads(text) if text else {}
