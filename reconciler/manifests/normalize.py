"""Canonical form: every accepted spelling folded to one, durations in seconds, ``lifecycle`` as its own value. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from reconciler.drivers.specs import OBJECT_KINDS, SPELLINGS, spec_of
from reconciler.manifests.objects import canonical_object
from reconciler.model.resources import Adopt, DeletionPolicy, DriftMode, IgnoreRule, Lifecycle, Management, Suspension

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_PREFIXES = (
    "AUTH_TYPE_",
    "FILTER_TYPE_",
    "FILTER_OPERATOR_",
    "CONDITION_TYPE_",
    "TIMEOUT_BEHAVIOR_",
    "PROVIDER_",
    "RESULT_",
    "TYPE_",
)
_FOLDED_KEYS = frozenset({"use", "type", "filterOperator", "timeoutBehavior", "provider", "results"})
_DURATION_KEYS = frozenset({"timeout", "backoff", "interval"})
_OPAQUE = frozenset({"payload", "clientPayload", "parameters", "variables", "inputs", "headers", "data", "labels", "permissions"})
"""Keys whose mapping is the user's own: nothing below is folded."""


def seconds(value: Any) -> float:
    """Return a validated duration in seconds."""
    if isinstance(value, int | float):
        return float(value)
    match = _DURATION.fullmatch(value)
    if match is None:
        return 0.0
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return float(days * 86_400 + hours * 3_600 + minutes * 60 + rest)


def canonical_spec(kind: str, spec: Mapping[str, Any]) -> tuple[dict[str, Any], Lifecycle]:
    """Return the spec in canonical form, and its lifecycle."""
    rest = {key: value for key, value in spec.items() if key != "lifecycle" and value is not None}
    lifecycle = lifecycle_of(spec.get("lifecycle") or {})
    if kind in OBJECT_KINDS:
        return canonical_object(OBJECT_KINDS[kind][1], rest), lifecycle
    folded = _fold(rest)
    if kind in {"EventSource", "Integration"} and "type" in folded:
        folded["type"] = "schedule" if folded["type"] == "scheduled" else SPELLINGS.get(folded["type"], folded["type"])
    if kind == "Stage":
        folded["executor"]["type"] = SPELLINGS.get(folded["executor"]["type"], folded["executor"]["type"])
        _one_form(folded["executor"])
    if kind == "Integration" and isinstance(folded.get("url"), str):
        folded["url"] = folded["url"].rstrip("/")
    return folded, lifecycle


def _fold(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {
            name: item if name in _OPAQUE and isinstance(item, Mapping) and "expression" not in item else _fold(item, name)
            for name, item in value.items()
            if item is not None
        }
    if isinstance(value, list):
        return [_fold(item, key) for item in value]
    if isinstance(value, str):
        if key in _FOLDED_KEYS:
            return word(value)
        if key in {"weekDays", "weekDay"}:
            return value.removeprefix("WEEK_DAY_").capitalize()
    if key in _DURATION_KEYS and isinstance(value, str | int):
        return seconds(value)
    return value


def word(value: str) -> str:
    """Return an enum value in its short form: ``AUTH_TYPE_ACCESS_KEY`` → ``access-key``."""
    for prefix in _PREFIXES:
        if value.startswith(prefix):
            return value.removeprefix(prefix).lower().replace("_", "-")
    return value


def _one_form(executor: dict[str, Any]) -> None:
    """Parameters as a map, and one spelling of each key."""
    inner = executor.get("spec")
    if not inner:
        return
    inner = executor["spec"] = dict(inner)
    if isinstance(inner.get("parameters"), list):
        inner["parameters"] = {one["name"]: one["value"] for one in inner["parameters"]}
    rule = spec_of(executor["type"]).executor
    for other, key in rule.aliases.items() if rule is not None else ():
        if other in inner:
            inner.setdefault(key, inner.pop(other))


def lifecycle_of(raw: Mapping[str, Any]) -> Lifecycle:
    """Return the lifecycle of a validated block."""
    suspend = raw.get("suspend")
    return Lifecycle(
        deletion_policy=DeletionPolicy(raw.get("deletionPolicy", "Delete")),
        management=Management(raw.get("management", "full")),
        drift=DriftMode(raw.get("drift", "repair")),
        adopt=Adopt(raw.get("adopt", "never")),
        replace_allowed=raw.get("replace") == "allow",
        ignore=tuple(IgnoreRule(rule["path"], rule.get("until")) for rule in raw.get("ignore", [])),
        interval_s=seconds(raw["interval"]) if raw.get("interval") is not None else None,
        suspend=Suspension(suspend["reason"], suspend.get("until")) if suspend else None,
        prevent_destroy=bool(raw.get("preventDestroy", False)),
        moved_from=raw.get("movedFrom"),
        external_id=str(raw["externalId"]) if raw.get("externalId") is not None else None,
    )
