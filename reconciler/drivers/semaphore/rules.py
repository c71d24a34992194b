"""Rules of a notification: one normal form for what is declared and for what the gateway answers, and back to a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.drivers.shown import only_shown
from reconciler.model.values import JsonObject

FILTERS = ("projects", "branches", "tags", "pipelines", "blocks", "states", "results")
DEFAULT_TIMEOUT_MS = 500
_ANY = ["/.*/"]  # what the matcher takes for a missing filter; only a missing ``projects`` matches nothing


def normal_rule(rule: Any) -> JsonObject:
    """Return ``rule`` in the form that is compared: every key there, patterns sorted, defaults filled. Idempotent."""
    rule = _mapping(rule)
    filters, notify = _mapping(rule.get("filter")), _mapping(rule.get("notify"))
    return {
        "name": str(rule.get("name") or ""),
        "filter": {key: _patterns(filters.get(key), fold=key != "projects") for key in FILTERS},
        "notify": {
            "webhook": _webhook(_mapping(notify.get("webhook"))),
            "slack": _target(notify.get("slack"), ("endpoint", "channels", "message", "status"), "endpoint"),
            "email": _target(notify.get("email"), ("subject", "cc", "bcc", "content", "status"), "cc"),
        },
    }


def from_rules(rules: Any, mark: str) -> tuple[JsonObject, list[JsonObject]]:
    """Return our rule (the one whose endpoint holds ``mark``, else the first with a webhook, else the first), and the others, each
    without the fields that the answer leaves out.

    Raises `TypeError` for what is no list: it must not look like a notification that somebody emptied.
    """
    if rules is not None and not isinstance(rules, list):
        raise TypeError("rules are a list")
    if not rules:
        return normal_rule({}), []
    normal = [normal_rule(rule) for rule in rules]
    endpoints = [rule["notify"]["webhook"]["endpoint"] for rule in normal]
    normal = [only_shown(rule, raw) for rule, raw in zip(normal, rules, strict=True)]
    first = next((i for i, endpoint in enumerate(endpoints) if endpoint), 0)
    index = next((i for i, endpoint in enumerate(endpoints) if mark and mark in endpoint), first)
    return normal[index], [*normal[:index], *normal[index + 1 :]]


def to_rules(rules: Sequence[JsonObject]) -> list[JsonObject]:
    """Return ``rules`` as they are sent: ``slack`` and ``webhook`` as objects, all lists there."""
    result: list[JsonObject] = []
    for rule in map(normal_rule, rules):
        notify = rule["notify"]
        targets: dict[str, Any] = {"slack": notify["slack"], "webhook": notify["webhook"]}
        if notify["email"]:
            targets["email"] = notify["email"]
        result.append({"name": rule["name"], "filter": rule["filter"], "notify": targets})
    return result


def _webhook(webhook: Mapping[str, Any]) -> JsonObject:
    return {
        "endpoint": str(webhook.get("endpoint") or ""),
        "timeout": _number(webhook.get("timeout")) or DEFAULT_TIMEOUT_MS,
        "action": str(webhook.get("action") or "post").lower(),
        "retries": _number(webhook.get("retries")),
        "secret": str(webhook.get("secret") or ""),
        "status": _status(webhook.get("status")),
    }


def _target(value: Any, keys: Sequence[str], vital: str) -> JsonObject:
    """A target that names nobody is none at all; else what it says, without what is empty."""
    target = _mapping(value)
    if not target.get(vital):
        return {}
    shown = {key: target[key] for key in keys if target.get(key) not in (None, "", [])}
    return {**shown, "status": _status(target.get("status"))}


def _status(value: Any) -> str:
    return "INACTIVE" if value in ("INACTIVE", 1) else "ACTIVE"


def _patterns(value: Any, *, fold: bool) -> list[str]:
    patterns = sorted({str(one) for one in value}) if isinstance(value, list | tuple) else []
    return [] if fold and patterns == _ANY else patterns


def _number(value: Any) -> int:
    """Numbers come as numbers, and 64-bit ones as text."""
    if isinstance(value, bool):
        return 0
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and value.lstrip("-").isdecimal() else 0


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
