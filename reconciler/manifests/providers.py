"""Names and URLs that a provider cannot have, which are refused before any request. Pure."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from reconciler.drivers.capabilities import AccountRule, NameRule
from reconciler.drivers.specs import is_event, spec_of
from reconciler.manifests.kinds import EventSourceSpec, EventSpec, ResourceSpec, StageSpec
from reconciler.manifests.templates import has_template

Invalid = tuple[str, str]
"""(message, hint)"""


def account_problem(provider: str, url: str) -> Invalid | None:
    """Return why the URL of an Integration of ``provider`` does not name an account."""
    rule = spec_of(provider).account
    if rule is None:
        return None
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return None  # its spelling is reported elsewhere
    path = [part for part in parts.path.split("/") if part]
    return _path_problem(rule, path) if rule.path else _host_problem(rule, host, path)


def _path_problem(rule: AccountRule, path: list[str]) -> Invalid | None:
    hint = f"For example {rule.example}."
    if path and path[0].lower() in rule.reserved:
        word = rule.example.rpartition("/")[2]
        account = path[1] if len(path) == 2 and re.fullmatch(rule.path, path[1]) else word
        message = f"the URL names no {rule.what}: /{path[0]}/ is a page of the provider"
        return message, f"Write {rule.example.removesuffix(word)}{account}."
    if re.fullmatch(rule.path, "/".join(path)) is None:
        return f"the URL names no {rule.what}", hint
    return None


def _host_problem(rule: AccountRule, host: str, path: list[str]) -> Invalid | None:
    hint = f"For example {rule.example}."
    if path and host.endswith(f".{rule.domain}"):
        return f"the URL of a {rule.what} has no path", hint
    try:
        ipaddress.ip_address(host)
    except ValueError:
        own = host == rule.domain or host.endswith(f".{rule.domain}")
        if "." not in host.strip(".") or (own and host.count(".") != rule.domain.count(".") + 1):
            return f"the URL names no {rule.what}", hint
    return None


def name_problem(provider: str, kind: str, name: str) -> Invalid | None:
    """Return why ``name`` cannot be the name of a ``kind`` (repository, organization, project …) of ``provider``."""
    rule = spec_of(provider).sources.get(kind)
    if rule is None or re.fullmatch(rule.pattern, name):
        return None
    return f"'{name}' is not a valid name of {_a(kind)}", rule.hint


def match_problem(provider: str, kind: str, pattern: str) -> Invalid | None:
    """Return why the glob ``pattern`` cannot match any ``kind`` of ``provider``."""
    rule = spec_of(provider).sources.get(kind, NameRule())
    if not rule.match:
        return f"{kind}s are selected by name, not by pattern", rule.match_hint
    if re.fullmatch(rule.match, pattern):
        return None
    return f"'{pattern}' cannot match the name of {_a(kind)}", rule.match_hint


def _a(kind: str) -> str:
    return f"{'an' if kind[:1] in 'aeiou' else 'a'} {kind}"


def source_problems(provider: str, spec: EventSourceSpec) -> Iterator[tuple[str, str, str, str]]:
    """Yield (code, pointer, message, hint) of each name in an event source that ``provider`` cannot have."""
    resource = spec.resource
    if resource is not None:
        yield from _resource(provider, resource)
    yield from _events(provider, spec.events)


def _resource(provider: str, resource: ResourceSpec) -> Iterator[tuple[str, str, str, str]]:
    kind = resource.type
    names = {"/spec/resource/name": resource.name} if resource.name is not None else {}
    names |= {f"/spec/resource/names/{index}": name for index, name in enumerate(resource.names)}
    seen: set[str] = set()
    for pointer, name in names.items():
        invalid = name_problem(provider, kind, name)
        if invalid is not None:
            yield "RC1276", pointer, *invalid
        folded = name.casefold() if spec_of(provider).fold_names else name
        if folded in seen:
            yield "RC1208", pointer, f"{name!r} is given twice: case does not count", "Keep one of them."
        seen.add(folded)
    if resource.match is not None and (invalid := match_problem(provider, kind, resource.match)) is not None:
        yield "RC1276", "/spec/resource/match", *invalid


def _events(provider: str, events: Iterable[EventSpec]) -> Iterator[tuple[str, str, str, str]]:
    record = spec_of(provider)
    for index, event in enumerate(events):
        name = event.type
        if not is_event(provider, name):
            spelled = (name.upper() if record.events_upper else name.lower()).replace("-", "_").replace(" ", "_")
            near = difflib.get_close_matches(spelled, record.events, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Its events: {', '.join(record.events)}."
            yield "RC1277", f"/spec/events/{index}/type", f"{provider} sends no event {name!r}", hint


def stage_problems(provider: str, spec: StageSpec) -> Iterator[tuple[str, str, str, str]]:
    """Yield the same for the resource that a stage's executor runs."""
    resource = spec.executor.resource
    if resource is None or resource.name is None or has_template(resource.name):
        return  # given by id, or by the event: checked when the event arrives
    invalid = name_problem(provider, resource.type, resource.name)
    if invalid is not None:
        yield "RC1276", "/spec/executor/resource/name", *invalid


__all__ = ["account_problem", "match_problem", "name_problem", "source_problems", "stage_problems"]
