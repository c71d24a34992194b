"""A simulated PagerDuty: the Events API v2.

Facts: developer.pagerduty.com, "Send an alert event". State: ``keys`` (integration keys of 32 characters) and ``alerts`` by
``KEY/dedup_key``, since a resolve with the key of another integration finds nothing. An alert has ``status`` (``triggered``,
``acknowledged``, ``resolved``), ``summary``, ``severity``, ``events`` (how many were taken) and ``opened`` (how many alerts that
``dedup_key`` had: an event after a resolve opens another).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from reconciler.sandbox.app import Call, Reply, Route, Simulator, SlidingLimit
from reconciler.sandbox.shapes import is_object

KEY = "R0" + "SANDBOX" + "0" * 23  # opens nothing but this simulator
ACTIONS = frozenset({"trigger", "acknowledge", "resolve"})
SEVERITIES = frozenset({"critical", "error", "warning", "info"})
MAX_DEDUP_KEY, MAX_SUMMARY, MAX_BYTES = 255, 1_024, 512 << 10


def _invalid(*errors: str) -> Reply:
    return Reply(400, {"status": "invalid event", "message": "Event object is invalid", "errors": list(errors)})


class PagerDuty(Simulator):
    """Implements `reconciler.sandbox.app.Simulator`. With the setting ``rate_limits`` it takes ``events_per_minute``."""

    provider = "pagerduty"
    defaults: Mapping[str, object] = {"events_per_minute": 120}

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._limit: SlidingLimit | None = None
        super().__init__(clock=clock)

    def seed(self) -> dict[str, object]:
        return {"keys": [KEY], "alerts": {}}

    def routes(self) -> Iterable[Route]:
        return [("POST", "/v2/enqueue", self._enqueue)]

    def _enqueue(self, call: Call) -> Reply:
        if self.settings["rate_limits"]:
            self._limit = self._limit or SlidingLimit(int(self.number("events_per_minute")), 60.0)
            if self._limit.take(self.clock()):
                return Reply(
                    429, {"status": "throttle exceeded", "message": "Requests for this service are arriving too quickly."}
                )
        if len(call.body) > MAX_BYTES:
            return Reply(413, {"status": "invalid event", "message": "Event is too large"})
        try:
            event = call.json()
        except ValueError:
            event = None
        if not is_object(event):
            return _invalid("JSON cannot be parsed")
        errors = _errors(event)
        if errors:
            return _invalid(*errors)
        if event["routing_key"] not in cast("list[str]", self.state["keys"]):
            return _invalid("'routing_key' is not a key of an integration")
        key = str(event.get("dedup_key") or f"generated-{self.next_id()}")
        self._take(f"{event['routing_key']}/{key}", event)
        return Reply(202, {"status": "success", "message": "Event processed", "dedup_key": key})

    def _take(self, key: str, event: Mapping[str, Any]) -> None:
        alerts = cast("dict[str, dict[str, Any]]", self.state["alerts"])
        alert = alerts.get(key)
        if event["event_action"] != "trigger":
            if alert is not None and alert["status"] != "resolved":
                alert["events"] += 1
                alert["status"] = "resolved" if event["event_action"] == "resolve" else "acknowledged"
            return
        payload = event["payload"]
        if alert is None or alert["status"] == "resolved":
            alert = alerts[key] = {"status": "triggered", "events": 0, "opened": (alert["opened"] if alert else 0) + 1}
        alert["events"] += 1
        alert |= {"summary": payload["summary"], "severity": payload["severity"], "details": payload.get("custom_details")}


def _errors(event: Mapping[str, Any]) -> list[str]:
    errors = []
    if not isinstance(event.get("routing_key"), str) or len(event["routing_key"]) != 32:
        errors.append("Length of 'routing_key' is incorrect (should be 32 characters)")
    action = event.get("event_action")
    if action not in ACTIONS:
        errors.append("'event_action' is invalid (must be one of trigger, acknowledge, resolve)")
    dedup_key = event.get("dedup_key")
    if dedup_key is not None and (not isinstance(dedup_key, str) or len(dedup_key) > MAX_DEDUP_KEY):
        errors.append("'dedup_key' is too long")
    if action in {"acknowledge", "resolve"} and not dedup_key:
        errors.append("'dedup_key' is missing or blank")
    if action == "trigger":
        errors += _payload_errors(event.get("payload"))
    links = event.get("links", [])
    if not isinstance(links, list) or any(not is_object(link) or not isinstance(link.get("href"), str) for link in links):
        errors.append("'links' is invalid")
    return errors


def _payload_errors(payload: object) -> list[str]:
    if not is_object(payload):
        return ["'payload' is missing or blank"]
    errors = [f"'payload.{name}' is missing or blank" for name in ("summary", "source", "severity") if not payload.get(name)]
    summary = payload.get("summary")
    if isinstance(summary, str) and len(summary) > MAX_SUMMARY:
        errors.append("'payload.summary' is too long (maximum is 1024 characters)")
    if payload.get("severity") and payload["severity"] not in SEVERITIES:
        errors.append("'payload.severity' is invalid (must be one of the following: 'critical', 'warning', 'error' or 'info')")
    if "custom_details" in payload and not isinstance(payload["custom_details"], dict | str):
        errors.append("'payload.custom_details' is invalid")
    return errors
