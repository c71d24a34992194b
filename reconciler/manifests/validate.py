"""What a schema cannot say about one document: combinations, expressions, templates. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.drivers.capabilities import AUTH_BLOCKS
from reconciler.drivers.specs import EXECUTORS, OBJECT_KINDS, SPECS
from reconciler.manifests.cel import ExpressionError, check_pattern, compile_filter, compile_value
from reconciler.manifests.feasible import impossible
from reconciler.manifests.mappings import mapping_problems
from reconciler.manifests.objects import object_problems
from reconciler.manifests.schedules import cron_error, is_instant, known_zone
from reconciler.manifests.templates import TemplateError, has_template, looks_like_template, references
from reconciler.manifests.text import YamlProblem
from reconciler.manifests.yaml import Document, escape
from reconciler.model.resources import Lifecycle

_LOCAL = {"webhook", "schedule", "manual"}


class _Check:
    """Collects problems at the places of one document."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[YamlProblem] = []
        self.named: set[tuple[str, str]] = set()
        """Names that were found not to be declared: (inputs or secrets, name)."""

    def say(self, code: str, pointer: str, message: str, hint: str = "", *, column: int = 0) -> None:
        at = pointer
        while at and at not in self.document.values:
            at = at.rpartition("/")[0]
        line, start = self.document.values.get(at, (self.document.line, self.document.column))
        self.problems.append(YamlProblem(code, message, line, start + column, pointer, hint))


def check_document(
    kind: str, spec: Mapping[str, Any], lifecycle: Lifecycle, document: Document, *, sandbox: bool
) -> list[YamlProblem]:
    """Return the problems of one document that already fits its schema."""
    check = _Check(document)
    if kind == "Secret":
        _secret(spec, check, sandbox=sandbox)
    elif kind == "Integration":
        _integration(spec, check)
    elif kind == "EventSource":
        _event_source(spec, check)
    elif kind in OBJECT_KINDS:
        for code, pointer, message in object_problems(OBJECT_KINDS[kind][1], spec):
            check.say(code, pointer, message)
    elif kind == "Stage":
        _stage(spec, check)
    elif kind == "ConnectionGroup":
        _connections(spec, check)
        if spec.get("timeoutBehavior", "none") != "none" and not spec.get("timeout"):
            check.say("RC1203", "/spec/timeoutBehavior", f"timeoutBehavior {spec['timeoutBehavior']} needs a timeout")
        for index, field in enumerate(spec["groupBy"]["fields"]):
            _value_expression(field["expression"], f"/spec/groupBy/fields/{index}/expression", check)
    for found in impossible(kind, spec, lifecycle):
        check.say(found.code, found.pointer, found.message, found.hint)
    for name, until in (
        ("suspend", lifecycle.suspend.until if lifecycle.suspend else None),
        *(("ignore", rule.until) for rule in lifecycle.ignore),
    ):
        if until is not None and not is_instant(until):
            check.say("RC1201", f"/spec/lifecycle/{name}", f"{until!r} is no RFC 3339 time", "For example 2030-01-31T00:00:00Z.")
    return check.problems


def _secret(spec: Mapping[str, Any], check: _Check, *, sandbox: bool) -> None:
    provider = spec["provider"]
    if provider == "local":
        if not sandbox:
            check.say(
                "RC1202",
                "/spec/provider",
                "provider local is only for the sandbox: a value never belongs into Git",
                "Use `provider: env` with `data: {KEY: {env: NAME}}`, or `provider: file` with `data: {KEY: {path: NAME}}`.",
            )
        elif "local" not in spec:
            check.say("RC1203", "/spec", "provider local needs local.data")
        return
    if provider in {"env", "file"}:
        field = "env" if provider == "env" else "path"
        if "data" not in spec:
            check.say("RC1203", "/spec", f"provider {provider} needs data: {{KEY: {{{field}: …}}}}")
        for key, entry in spec.get("data", {}).items():
            if field not in entry:
                check.say("RC1203", f"/spec/data/{key}", f"provider {provider} wants {{{field}: …}} here")
            elif field == "path" and (entry["path"].startswith("/") or ".." in entry["path"].split("/")):
                check.say(
                    "RC1204",
                    f"/spec/data/{key}/path",
                    "the path leaves the secrets folder",
                    "Write it relative to secrets.folder.",
                )
    elif provider not in spec:
        check.say("RC1203", "/spec", f"provider {provider} needs the block {provider}")


def _integration(spec: Mapping[str, Any], check: _Check) -> None:
    kind, use = spec["type"], spec["auth"]["use"]
    provider = SPECS[kind]
    if use not in provider.auth:
        why = provider.why_not.get(use, f"{kind} takes: {', '.join(sorted(provider.auth))}")
        check.say("RC1205", "/spec/auth/use", f"{kind} cannot authenticate with {use}", why[0].upper() + why[1:] + ".")
        return
    block = AUTH_BLOCKS.get(use)
    if block is not None and block not in spec["auth"]:
        check.say("RC1203", "/spec/auth", f"use: {use} needs the block {block}")
    if "oidc" in spec and not provider.job_tokens:
        names = ", ".join(sorted(each.name for each in SPECS.values() if each.job_tokens))
        check.say("RC1206", "/spec/oidc", f"jobs of {kind} have no tokens; oidc goes with {names}")
    if provider.needs_url and "url" not in spec:
        hint = f"For example {provider.account.example}." if provider.account is not None else ""
        check.say("RC1203", "/spec", f"{kind} needs a url", hint)


def _event_source(spec: Mapping[str, Any], check: _Check) -> None:
    kind = spec.get("type")
    if kind in _LOCAL:
        for key in ("integration", "resource"):
            if key in spec:
                check.say("RC1206", f"/spec/{key}", f"a source of type {kind} has no {key}")
        if kind == "schedule" and "schedule" not in spec:
            check.say("RC1203", "/spec", "a source of type schedule needs schedule")
        if kind == "schedule":
            _schedule(spec.get("schedule", {}), check)
    elif "integration" not in spec:
        check.say("RC1203", "/spec", "integration is missing", "Name an Integration, or set type to webhook, schedule or manual.")
    elif "resource" not in spec:
        check.say("RC1203", "/spec", "resource is missing", "For example {type: repository, name: payments}.")
    for index, event in enumerate(spec.get("events", ())):
        _filters(event, f"/spec/events/{index}", check)


def _schedule(spec: Mapping[str, Any], check: _Check) -> None:
    if "cron" in spec and (wrong := cron_error(spec["cron"])):
        check.say("RC1207", "/spec/schedule/cron", wrong, "For example `0 9 * * 1-5`: minute, hour, day, month, weekday.")
    kind = spec.get("type")
    if kind is not None and kind not in spec:
        check.say("RC1203", "/spec/schedule", f"type {kind} needs the block {kind}")
    zone = spec.get("timeZone")
    if zone is not None and not known_zone(zone):
        check.say("RC1207", "/spec/schedule/timeZone", f"{zone!r} is no IANA time zone", "For example Europe/Berlin.")


def _filters(holder: Mapping[str, Any], pointer: str, check: _Check) -> None:
    for index, one in enumerate(holder.get("filters", ())):
        at, kind = f"{pointer}/filters/{index}", one["type"]
        if kind not in one:
            check.say("RC1203", at, f"a filter of type {kind} needs the block {kind}")
        elif kind in {"data", "header"}:
            _expression(one[kind]["expression"], f"{at}/{kind}/expression", check)
        else:
            _patterns(one["payload"], f"{at}/payload", check)


def _patterns(payload: Mapping[str, str], pointer: str, check: _Check) -> None:
    for key, pattern in payload.items():
        _pattern(pattern, f"{pointer}/{escape(key)}", check)


def _pattern(text: str, pointer: str, check: _Check) -> None:
    try:
        check_pattern(text)
    except ExpressionError as error:
        check.say("RC1303", pointer, error.message, "The syntax is RE2's: no look-around, no back-references.")


def _expression(text: str, pointer: str, check: _Check) -> None:
    try:
        compile_filter(text)
    except ExpressionError as error:
        check.say("RC1301", pointer, f"not a CEL condition (at character {error.column}): {error.message}")


def _value_expression(text: str, pointer: str, check: _Check) -> None:
    try:
        compile_value(text)
    except ExpressionError as error:
        check.say("RC1301", pointer, f"not a CEL expression (at character {error.column}): {error.message}")


def _connections(spec: Mapping[str, Any], check: _Check) -> None:
    seen: set[tuple[str, str]] = set()
    for index, one in enumerate(spec["connections"]):
        key = (one["type"], one["name"])
        if key in seen:
            check.say("RC1208", f"/spec/connections/{index}", f"{one['type']} {one['name']} is connected twice")
        seen.add(key)
        _filters(one, f"/spec/connections/{index}", check)


_OF_A_NEW_ONE = ("environment", "ref", "task", "description", "transient", "production")


def _report(spec: Mapping[str, Any], check: _Check) -> None:
    """What would be read and mean nothing is refused: nobody would notice until the status is missing."""
    wanted = spec.get("deployment", {})
    for key in (*_OF_A_NEW_ONE, "environmentUrl", "logUrl") if not wanted.get("create") else ():
        if key in wanted and (key in _OF_A_NEW_ONE or not spec.get("deploymentStatus")):
            also = "" if key in _OF_A_NEW_ONE else ", or with deploymentStatus: true"
            check.say("RC1206", f"/spec/report/deployment/{key}", f"{key} goes with create: true{also}")
    if "automatic" in wanted and not spec.get("deploymentStatus"):
        check.say("RC1206", "/spec/report/deployment/automatic", "automatic goes with deploymentStatus: true")


def _stage(spec: Mapping[str, Any], check: _Check) -> None:
    _connections(spec, check)
    _report(spec.get("report", {}), check)
    for field in ("inputs", "outputs", "secrets"):
        for name, index in _repeated(spec.get(field, ())):
            check.say("RC1208", f"/spec/{field}/{index}/name", f"{name!r} stands twice in {field}")
    for index, one in enumerate(spec.get("inputs", ())):
        if "pattern" in one:
            _pattern(one["pattern"], f"/spec/inputs/{index}/pattern", check)
    _mappings(spec, check)
    for index, condition in enumerate(spec.get("conditions", ())):
        key = {"approval": "approval", "time-window": "timeWindow"}[condition["type"]]
        if key not in condition:
            check.say("RC1203", f"/spec/conditions/{index}", f"a condition of type {condition['type']} needs the block {key}")
        zone = condition.get("timeWindow", {}).get("timeZone")
        if zone is not None and not known_zone(zone):
            check.say("RC1207", f"/spec/conditions/{index}/timeWindow/timeZone", f"{zone!r} is no IANA time zone")
    _executor(spec, check)


def _repeated(items: Any) -> Iterator[tuple[str, int]]:
    seen: set[str] = set()
    for index, item in enumerate(items):
        if item["name"] in seen:
            yield item["name"], index
        seen.add(item["name"])


def _mappings(spec: Mapping[str, Any], check: _Check) -> None:
    for code, pointer, message, hint in mapping_problems(spec):
        check.say(code, pointer, message, hint)
    unknown = {value["name"] for mapping in spec.get("inputMappings", ()) for value in mapping["values"]}
    check.named |= {("inputs", name) for name in unknown - {one["name"] for one in spec.get("inputs", ())}}
    for index, mapping in enumerate(spec.get("inputMappings", ())):
        for position, value in enumerate(mapping["values"]):
            at = f"/spec/inputMappings/{index}/values/{position}"
            data = value.get("valueFrom", {}).get("eventData")
            if data is not None:
                _value_expression(data["expression"], f"{at}/valueFrom/eventData/expression", check)
            _templates(value.get("value"), f"{at}/value", {}, check)


def _executor(spec: Mapping[str, Any], check: _Check) -> None:
    executor = spec["executor"]
    kind = executor["type"]
    rule = EXECUTORS[kind].executor if kind in EXECUTORS else None
    inner = executor.get("spec", {})
    if rule is not None:
        if "integration" not in executor:
            check.say("RC1203", "/spec/executor", f"the executor {kind} needs an integration")
        resource = executor.get("resource")
        if resource is None:
            check.say("RC1203", "/spec/executor", f"the executor {kind} needs a resource of type {rule.resource}")
        elif resource["type"] != rule.resource:
            message = f"the executor {kind} takes a {rule.resource}, not a {resource['type']}"
            check.say("RC1206", "/spec/executor/resource/type", message)
        if rule.required and not any(inner.get(key) for key in rule.required):
            keys = ", or ".join(f"spec.{key}" for key in rule.required)
            check.say("RC1203", "/spec/executor/spec", f"the executor {kind} needs {keys}", rule.hint)
    if kind == "http" and "url" not in inner:
        check.say("RC1203", "/spec/executor", "the executor http needs spec.url")
    known = {
        "inputs": {one["name"] for one in spec.get("inputs", ())},
        "secrets": {one["name"] for one in spec.get("secrets", ())},
    }
    _open_resource(executor, known, check)
    _templates(inner, "/spec/executor/spec", known, check)
    shown = {"inputs": known["inputs"]}  # a name and a report are read by people: no secret goes into them
    _templates(executor.get("name", ""), "/spec/executor/name", shown, check)
    _templates(spec.get("report", {}), "/spec/report", shown, check)
    for key in ("successWhen", "failureWhen"):
        condition = inner["poll"].get(key) if isinstance(inner.get("poll"), Mapping) else None
        if condition is not None and not looks_like_template(condition):
            _expression(condition, f"/spec/executor/spec/poll/{key}", check)


def _open_resource(executor: Mapping[str, Any], known: Mapping[str, set[str]], check: _Check) -> None:
    """What runs may come out of the event, but only out of what a person committed as allowed."""
    inner, name = executor.get("spec", {}), executor.get("resource", {}).get("name", "")
    at, open_project = "/spec/executor/resource/name", has_template(inner.get("project"))
    _templates(name, at, known, check)
    if "secrets." in name and has_template(name):
        check.say("RC1302", at, "what is run cannot be made of a secret", "Use inputs.NAME or event.PATH.")
    if has_template(inner.get("workspace")):
        check.say("RC1265", "/spec/executor/spec/workspace", "a workspace cannot come out of the event", "Write its name.")
    if not has_template(name) and not open_project:
        if "allow" in executor:
            check.say("RC1206", "/spec/executor/allow", "allow goes with a template in resource.name", "Remove it.")
        return
    if not executor.get("allow"):
        check.say(
            "RC1265",
            at if has_template(name) else "/spec/executor/spec/project",
            "what is run comes out of the event, and executor.allow does not say what it may be",
            "For example allow: [web, 'svc-*'].",
        )
    for index, pattern in enumerate(executor.get("allow", ()) if open_project else ()):
        if "/" not in pattern:
            check.say("RC1265", f"/spec/executor/allow/{index}", "the project is a template: write PROJECT/PIPELINE here")


def _templates(value: Any, pointer: str, known: Mapping[str, set[str]], check: _Check) -> None:
    """Check every template below ``value``, each at its own place; ``known``: names by root, besides those of events."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _templates(item, f"{pointer}/{escape(str(key))}", known, check)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _templates(item, f"{pointer}/{index}", known, check)
    elif isinstance(value, str) and "${{" in value:
        try:
            for path in references(value):
                _template(path, pointer, known, check)
        except TemplateError as error:
            check.say("RC1302", pointer, str(error), "Templates are look-ups and no code.")


def _template(path: str, pointer: str, known: Mapping[str, set[str]], check: _Check) -> None:
    root, _, name = path.partition(".")
    if root == "event" or name in known.get(root, ()):
        return
    if root not in known:
        roots = ", ".join(f"{one}.…" for one in (*known, "event"))
        check.say("RC1302", pointer, f"${{{{ {path} }}}} cannot be used here", f"There is: {roots}")
    elif (root, name) not in check.named:  # a name that is not declared is one mistake, wherever it is used
        check.named.add((root, name))
        meant = difflib.get_close_matches(name, sorted(known[root]), n=1)
        hint = f"Did you mean {root}.{meant[0]}?" if meant else f"Its {root}: {', '.join(sorted(known[root])) or 'none'}."
        check.say("RC1302", pointer, f"${{{{ {path} }}}} names no {root.rstrip('s')} of this stage", hint)


__all__ = ["check_document"]
