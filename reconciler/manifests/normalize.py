"""Canonical form of a spec: one spelling of each value, durations in seconds, ``lifecycle`` as a value of its own. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from reconciler.drivers.specs import OBJECT_KINDS, SPELLINGS, spec_of
from reconciler.manifests.objects import canonical_object
from reconciler.model.json import Json, JsonMap, as_map, at
from reconciler.model.resources import Lifecycle
from reconciler.model.specs import LifecycleSpec

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
_DURATION_KEYS = frozenset({"timeout", "backoff", "interval", "duration"})
_OPAQUE = frozenset({"payload", "clientPayload", "parameters", "variables", "inputs", "headers", "data", "labels", "permissions"})
"""Keys whose mapping belongs to the user: nothing below is folded."""


def seconds(value: Json) -> float:
    """Return a validated duration in seconds."""
    if isinstance(value, int | float):
        return float(value)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return 0.0
    days, hours, minutes, rest = map(int, match.groups("0"))
    return float(days * 86_400 + hours * 3_600 + minutes * 60 + rest)


def canonical_spec(kind: str, spec: JsonMap) -> tuple[dict[str, Json], Lifecycle]:
    """Return the spec in canonical form, and its lifecycle."""
    rest = {key: value for key, value in spec.items() if key != "lifecycle" and value is not None}
    lifecycle = lifecycle_of(as_map(spec.get("lifecycle")))
    if kind in OBJECT_KINDS:
        return canonical_object(OBJECT_KINDS[kind][1], rest), lifecycle
    folded = _folded_map(rest)
    name = folded.get("type")
    if kind in {"EventSource", "Integration"} and isinstance(name, str):
        folded["type"] = "schedule" if name == "scheduled" else SPELLINGS.get(name, name)
    if kind == "Stage":
        folded["executor"] = _canonical_executor(as_map(folded["executor"]))
    url = folded.get("url")
    if kind == "Integration" and isinstance(url, str):
        folded["url"] = url.rstrip("/")
    return folded, lifecycle


def _folded_map(value: JsonMap) -> dict[str, Json]:
    return {
        name: item if name in _OPAQUE and isinstance(item, Mapping) and "expression" not in item else _fold(item, name)
        for name, item in value.items()
        if item is not None
    }


def _fold(value: Json, key: str) -> Json:
    if isinstance(value, Mapping):
        return _folded_map(value)
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


def _canonical_executor(executor: JsonMap) -> dict[str, Json]:
    """Return an executor with its parameters as a mapping, and with one spelling of its type and of each key of its spec."""
    kind = str(executor["type"])
    kind = SPELLINGS.get(kind, kind)
    canonical: dict[str, Json] = {**executor, "type": kind}
    if not executor.get("spec"):
        return canonical
    inner = dict(as_map(executor["spec"]))
    parameters = inner.get("parameters")
    if isinstance(parameters, list):
        inner["parameters"] = {str(at(parameter, "name")): at(parameter, "value") for parameter in parameters}
    rule = spec_of(kind).executor
    for other, key in rule.aliases.items() if rule is not None else ():
        if other in inner:
            inner.setdefault(key, inner.pop(other))
    canonical["spec"] = inner
    return canonical


def lifecycle_of(raw: JsonMap) -> Lifecycle:
    """Return the lifecycle of a validated block."""
    if not raw:
        return _PLAIN
    spec = msgspec.convert(raw, LifecycleSpec)
    return Lifecycle(
        deletion_policy=spec.deletion_policy,
        management=spec.management,
        drift=spec.drift,
        adopt=spec.adopt,
        replace_allowed=spec.replace == "allow",
        ignore=spec.ignore,
        interval_s=seconds(spec.interval) if spec.interval is not None else None,
        suspend=spec.suspend,
        prevent_destroy=spec.prevent_destroy,
        moved_from=spec.moved_from,
        external_id=str(spec.external_id) if spec.external_id is not None else None,
    )


_PLAIN = Lifecycle()
