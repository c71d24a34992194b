"""Resource names from events, limited by `executor.allow` and by the Integration. Pure.

A name from an event becomes part of a path at the provider, and selects the workflow that runs with the Integration's credential. So
it is normalized, contains no part that leads elsewhere in the path, and must match an entry that a person committed as allowed.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from reconciler.drivers.capabilities import ExecutorRule
from reconciler.drivers.specs import spec_of
from reconciler.manifests.kinds import IntegrationSpec, StageSpec
from reconciler.manifests.templates import TemplateError, has_template, resolve_text
from reconciler.model.values import JsonObject
from reconciler.stages.inputs import InputError

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_TITLE = re.compile(r"[^\x00-\x1f\x7f-\x9f/\\%?#\u200b-\u200f\u2028-\u202e\u2060-\u206f]{1,255}")
"""A title: text written by people."""


class NotAllowed(InputError):
    """A name from an event that the stage may not run."""

    code = "RC6065"


def resource_name(spec: StageSpec, scope: JsonObject, integration: IntegrationSpec | None) -> str:
    """Return ``executor.resource.name`` with its templates replaced, normalized; empty if it has no template.

    ``scope``: ``inputs`` and ``event``. Raises `NotAllowed` for a name that no entry of `executor.allow` matches, or that is not
    within the Integration's account.
    """
    executor = spec.executor
    places = (executor.resource_name, executor.spec.get("project", ""))
    if not any(has_template(place) for place in places):
        return ""
    try:
        name, project = (str(resolve_text(place, scope)) for place in places)
    except TemplateError as error:
        raise InputError(f"executor.resource.name: {error}") from None
    provider = spec_of(executor.type)
    rule = provider.executor or ExecutorRule(resource="resource")
    account = account_of(integration)
    if rule.qualifier == "account":
        name = _repository(name, account)
    else:
        _require(_TITLE if rule.titles else _NAME, name, rule.resource)
    if rule.qualifier == "project":
        _require(_NAME, project, "project")
    shown = f"{project}/{name}" if rule.qualifier == "project" else name
    default = {"account": account, "project": project}.get(rule.qualifier, "")
    if not any(matches(_whole(entry, default), shown, fold=provider.fold_names) for entry in executor.allow):
        allowed = ", ".join(executor.allow) or "nothing"
        raise NotAllowed(f"{shown!r} is not among what this stage may run: {allowed}", hint=_HINT)
    return name


_HINT = "Add it to `executor.allow`, or leave such events out with a filter."


def account_of(integration: IntegrationSpec | None) -> str:
    """Return the account in the URL of an Integration: ``acme`` of ``https://host.example/acme``."""
    path = urlsplit(integration.url or "").path if integration is not None else ""
    return path.strip("/").partition("/")[0]


def matches(pattern: str, text: str, *, fold: bool = False) -> bool:
    """Whether ``pattern`` matches ``text``, part by part between slashes: `*` is any characters, `?` is one character.

    It takes at most as many steps as the product of both lengths.
    """
    if fold:
        pattern, text = pattern.lower(), text.lower()
    patterns, parts = pattern.split("/"), text.split("/")
    return len(patterns) == len(parts) and all(map(_glob, patterns, parts))


def _glob(pattern: str, text: str) -> bool:
    at = place = 0
    star, tried = -1, 0
    while at < len(text):
        if place < len(pattern) and pattern[place] == "*":
            star, tried = place, at
            place += 1
        elif place < len(pattern) and pattern[place] in ("?", text[at]):
            at, place = at + 1, place + 1
        elif star >= 0:
            tried += 1
            at, place = tried, star + 1
        else:
            return False
    return not pattern[place:].strip("*")


def _repository(name: str, account: str) -> str:
    """Return ``owner/repo`` in lower case. Raises `NotAllowed` for another owner than the Integration's account."""
    owner, slash, repository = name.partition("/")
    if not slash:
        owner, repository = account, name
    _require(_NAME, repository, "repository")
    if not account or owner.lower() != account.lower():
        raise NotAllowed(f"{name[:120]!r} belongs to another owner than the Integration's: {account or 'none'}", hint=_HINT)
    return f"{owner}/{repository}".lower()


def _require(form: re.Pattern[str], name: str, what: str) -> None:
    if form.fullmatch(name) is None or name.strip(". ") == "" or name != name.strip():
        raise NotAllowed(
            f"{name[:120]!r} is not a valid name of a {what}", hint="It comes from the event: see the template in `executor`."
        )


def _whole(pattern: str, default: str) -> str:
    """Return an entry of `allow` with its owner or project, which may be left out."""
    return pattern if "/" in pattern or not default else f"{default}/{pattern}"
