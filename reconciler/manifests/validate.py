"""Rules for one document that its schema cannot express: combinations, expressions, templates. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from reconciler.drivers.specs import EXECUTORS, OBJECT_KINDS, SPECS
from reconciler.manifests.cel import ExpressionError, check_pattern, compile_filter, compile_value
from reconciler.manifests.feasible import impossible
from reconciler.manifests.kinds import (
    KINDS,
    ConnectionGroupSpec,
    EventSourceSpec,
    ExecutorSpec,
    IntegrationSpec,
    ScheduleSpec,
    StageSpec,
)
from reconciler.manifests.mappings import mapping_problems
from reconciler.manifests.objects import object_problems
from reconciler.manifests.schedules import cron_error, is_instant, known_zone
from reconciler.manifests.secret_spec import SecretSpec
from reconciler.manifests.templates import TemplateError, has_template, references, starts_template
from reconciler.manifests.text import YamlProblem
from reconciler.manifests.yaml import Document
from reconciler.model.json import Json, JsonMap, as_map, escape, text_at
from reconciler.model.resources import Lifecycle
from reconciler.model.specs import ConnectionSpec, FilterSpec

_LOCAL = {"webhook", "schedule", "manual"}


class _Check:
    """Collects problems, each at its place in the document."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[YamlProblem] = []
        self.named: set[tuple[str, str]] = set()
        """Names that are reported as not declared: (``inputs`` or ``secrets``, name)."""

    def say(self, code: str, pointer: str, message: str, hint: str = "", *, column: int = 0) -> None:
        at = pointer
        while at and at not in self.document.values:
            at = at.rpartition("/")[0]
        line, start = self.document.values.get(at, (self.document.line, self.document.column))
        self.problems.append(YamlProblem(code, message, line, start + column, pointer, hint))


def check_document(kind: str, raw: JsonMap, lifecycle: Lifecycle, document: Document, *, sandbox: bool) -> list[YamlProblem]:
    """Return the problems of one document whose canonical spec is ``raw`` and matches its schema."""
    check = _Check(document)
    try:
        spec = msgspec.convert(raw, KINDS[kind])
    except msgspec.ValidationError as error:
        check.say("RC1104", *_mistyped(error))
        return check.problems
    if isinstance(spec, SecretSpec):
        _secret(spec, check, sandbox=sandbox)
    elif isinstance(spec, IntegrationSpec):
        _integration(spec, check)
    elif isinstance(spec, EventSourceSpec):
        _event_source(spec, check)
    elif isinstance(spec, StageSpec):
        _stage(spec, raw, check)
    elif isinstance(spec, ConnectionGroupSpec):
        _group(spec, check)
    elif kind in OBJECT_KINDS:
        for code, pointer, message in object_problems(OBJECT_KINDS[kind][1], raw):
            check.say(code, pointer, message)
    for problem in impossible(spec, raw, lifecycle):
        check.say(problem.code, problem.pointer, problem.message, problem.hint)
    for name, until in (
        ("suspend", lifecycle.suspend.until if lifecycle.suspend else None),
        *(("ignore", rule.until) for rule in lifecycle.ignore),
    ):
        if until is not None and not is_instant(until):
            message = f"{until!r} is not an RFC 3339 time"
            check.say("RC1201", f"/spec/lifecycle/{name}", message, "For example 2030-01-31T00:00:00Z.")
    return check.problems


def _mistyped(error: msgspec.ValidationError) -> tuple[str, str, str]:
    """Return pointer, message and hint of a value that its schema accepts and its struct does not: JSON Schema counts 1.0 as an integer."""
    reason, _, path = str(error).partition(" - at `$")
    pointer = re.sub(r"\[(\d+)\]|\.", lambda match: f"/{match[1] or ''}", path.rstrip("`"))
    name = pointer.rpartition("/")[2]
    if reason == "Expected `int`, got `float`":
        return f"/spec{pointer}", f"{name}: must be of type integer, not a decimal number", "Write it without a decimal point."
    return f"/spec{pointer}", f"{name}: {reason}", ""


def _secret(spec: SecretSpec, check: _Check, *, sandbox: bool) -> None:
    if spec.provider == "local" and not sandbox:
        check.say(
            "RC1202",
            "/spec/provider",
            "provider local is only for the sandbox: secret values do not belong in Git",
            "Use `provider: env` with `data: {KEY: {env: NAME}}`, or `provider: file` with `data: {KEY: {path: NAME}}`.",
        )
    for key, entry in spec.data.items():
        if entry.path is not None and ".." in entry.path.split("/"):
            message = "the path leaves the secrets folder"
            check.say("RC1204", f"/spec/data/{key}/path", message, "Write it relative to secrets.folder.")


def _integration(spec: IntegrationSpec, check: _Check) -> None:
    kind, use = spec.type, spec.auth.use
    provider = SPECS[kind]
    if use not in provider.auth:
        why = provider.why_not.get(use, f"{kind} takes: {', '.join(sorted(provider.auth))}")
        check.say("RC1205", "/spec/auth/use", f"{kind} cannot authenticate with {use}", why[0].upper() + why[1:] + ".")
        return
    if use == "oidc" and spec.auth.oidc is not None:
        given = as_map(msgspec.to_builtins(spec.auth.oidc))
        for key in provider.oidc_needs:
            if not given.get(key):
                check.say("RC1203", "/spec/auth/oidc", f"oidc with {kind} needs {key}", f"Add `{key}` to `auth.oidc`.")
    if spec.oidc is not None and not provider.job_tokens:
        names = ", ".join(sorted(each.name for each in SPECS.values() if each.job_tokens))
        check.say("RC1206", "/spec/oidc", f"jobs of {kind} have no tokens; oidc goes with {names}")
    if spec.app_webhook is not None and spec.app_webhook.manage and use != "github-app":
        hint = "Set `auth.use` to github-app, or remove appWebhook."
        check.say("RC1206", "/spec/appWebhook", f"appWebhook is the webhook of an App; auth {use} has none", hint)
    if provider.needs_url and spec.url is None:
        hint = f"For example {provider.account.example}." if provider.account is not None else ""
        check.say("RC1203", "/spec", f"{kind} needs a url", hint)


def _event_source(spec: EventSourceSpec, check: _Check) -> None:
    kind = spec.type
    if kind in _LOCAL:
        for key, value in (("integration", spec.integration), ("resource", spec.resource)):
            if value is not None:
                check.say("RC1206", f"/spec/{key}", f"a source of type {kind} has no {key}")
        if kind == "schedule" and spec.schedule is None:
            check.say("RC1203", "/spec", "a source of type schedule needs schedule")
        elif kind == "schedule" and spec.schedule is not None:
            _schedule(spec.schedule, check)
    elif spec.integration is None:
        check.say("RC1203", "/spec", "integration is missing", "Name an Integration, or set type to webhook, schedule or manual.")
    elif spec.resource is None:
        check.say("RC1203", "/spec", "resource is missing", "For example {type: repository, name: payments}.")
    for index, event in enumerate(spec.events):
        _filters(event.filters, f"/spec/events/{index}", check)


def _schedule(spec: ScheduleSpec, check: _Check) -> None:
    if spec.cron is not None and (problem := cron_error(spec.cron)):
        check.say("RC1207", "/spec/schedule/cron", problem, "For example `0 9 * * 1-5`: minute, hour, day, month, weekday.")
    if not known_zone(spec.time_zone):
        message = f"{spec.time_zone!r} is not an IANA time zone"
        check.say("RC1207", "/spec/schedule/timeZone", message, "For example Europe/Berlin.")


def _filters(filters: Iterable[FilterSpec], pointer: str, check: _Check) -> None:
    for index, entry in enumerate(filters):
        at = f"{pointer}/filters/{index}"
        for key, condition in (("data", entry.data), ("header", entry.header)):
            if condition is not None:
                _expression(condition.expression, f"{at}/{key}/expression", check)
        for key, pattern in entry.payload.items():
            _pattern(pattern, f"{at}/payload/{escape(key)}", check)


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


def _connections(connections: Iterable[ConnectionSpec], check: _Check) -> None:
    seen: set[tuple[str, str]] = set()
    for index, connection in enumerate(connections):
        key = (connection.type, connection.name)
        if key in seen:
            check.say("RC1208", f"/spec/connections/{index}", f"{connection.type} {connection.name} is connected twice")
        seen.add(key)
        _filters(connection.filters, f"/spec/connections/{index}", check)


def _group(spec: ConnectionGroupSpec, check: _Check) -> None:
    _connections(spec.connections, check)
    if spec.timeout_behavior != "none" and not spec.timeout:
        check.say("RC1203", "/spec/timeoutBehavior", f"timeoutBehavior {spec.timeout_behavior} needs a timeout")
    for index, field in enumerate(spec.group_by.fields):
        _value_expression(field.expression, f"/spec/groupBy/fields/{index}/expression", check)


_OF_A_NEW_ONE = ("environment", "ref", "task", "description", "transient", "production")


def _report(report: JsonMap, check: _Check) -> None:
    """Refuse keys that would have no effect."""
    deployment = as_map(report.get("deployment"))
    for key in (*_OF_A_NEW_ONE, "environmentUrl", "logUrl") if not deployment.get("create") else ():
        if key in deployment and (key in _OF_A_NEW_ONE or not report.get("deploymentStatus")):
            also = "" if key in _OF_A_NEW_ONE else ", or with deploymentStatus: true"
            check.say("RC1206", f"/spec/report/deployment/{key}", f"{key} goes with create: true{also}")
    if "automatic" in deployment and not report.get("deploymentStatus"):
        check.say("RC1206", "/spec/report/deployment/automatic", "automatic goes with deploymentStatus: true")


def _stage(spec: StageSpec, raw: JsonMap, check: _Check) -> None:
    _connections(spec.connections, check)
    _report(as_map(raw.get("report")), check)
    for field, names in (
        ("inputs", [each.name for each in spec.inputs]),
        ("outputs", [each.name for each in spec.outputs]),
        ("secrets", [each.name for each in spec.secrets]),
    ):
        for name, index in _repeated(names):
            check.say("RC1208", f"/spec/{field}/{index}/name", f"{name!r} is given twice in {field}")
    for index, declared in enumerate(spec.inputs):
        if declared.pattern is not None:
            _pattern(declared.pattern, f"/spec/inputs/{index}/pattern", check)
    _mappings(spec, check)
    for index, condition in enumerate(spec.conditions):
        zone = condition.time_window.time_zone if condition.time_window is not None else "UTC"
        if not known_zone(zone):
            check.say("RC1207", f"/spec/conditions/{index}/timeWindow/timeZone", f"{zone!r} is not an IANA time zone")
    _executor(spec, raw, check)


def _repeated(names: Iterable[str]) -> Iterator[tuple[str, int]]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield name, index
        seen.add(name)


def _mappings(spec: StageSpec, check: _Check) -> None:
    for code, pointer, message, hint in mapping_problems(spec):
        check.say(code, pointer, message, hint)
    unknown = {value.name for mapping in spec.input_mappings for value in mapping.values}
    check.named |= {("inputs", name) for name in unknown - {each.name for each in spec.inputs}}
    for index, mapping in enumerate(spec.input_mappings):
        for position, value in enumerate(mapping.values):
            at = f"/spec/inputMappings/{index}/values/{position}"
            data = value.value_from.event_data if value.value_from is not None else None
            if data is not None:
                _value_expression(data.expression, f"{at}/valueFrom/eventData/expression", check)
            _templates(value.value, f"{at}/value", {}, check)


def _executor(spec: StageSpec, raw: JsonMap, check: _Check) -> None:
    executor = spec.executor
    kind, inner = executor.type, executor.spec
    rule = EXECUTORS[kind].executor if kind in EXECUTORS else None
    if rule is not None and rule.required and not any(inner.get(key) for key in rule.required):
        keys = ", or ".join(f"spec.{key}" for key in rule.required)
        check.say("RC1203", "/spec/executor/spec", f"the executor {kind} needs {keys}", rule.hint)
    known = {"inputs": {each.name for each in spec.inputs}, "secrets": {each.name for each in spec.secrets}}
    _open_resource(executor, known, check)
    _templates(inner, "/spec/executor/spec", known, check)
    shown = {"inputs": known["inputs"]}  # people read a name and a report: no secret goes into them
    _templates(executor.name, "/spec/executor/name", shown, check)
    _templates(raw.get("report"), "/spec/report", shown, check)
    for key in ("successWhen", "failureWhen"):
        condition = text_at(inner, "poll", key)
        if condition is not None and not starts_template(condition):
            _expression(condition, f"/spec/executor/spec/poll/{key}", check)


def _open_resource(executor: ExecutorSpec, known: Mapping[str, set[str]], check: _Check) -> None:
    """Check a resource whose name comes from the event: only names that the manifest allows can run."""
    inner, name = executor.spec, (executor.resource.name if executor.resource is not None else None) or ""
    at, open_project = "/spec/executor/resource/name", has_template(inner.get("project"))
    _templates(name, at, known, check)
    if "secrets." in name and has_template(name):
        check.say("RC1302", at, "the name of a resource must not come from a secret", "Use inputs.NAME or event.PATH.")
    if has_template(inner.get("workspace")):
        message = "the workspace must not come from the event"
        check.say("RC1265", "/spec/executor/spec/workspace", message, "Write its name.")
    if not has_template(name) and not open_project:
        if executor.allow:
            check.say("RC1206", "/spec/executor/allow", "allow goes with a template in resource.name", "Remove it.")
        return
    if not executor.allow:
        check.say(
            "RC1265",
            at if has_template(name) else "/spec/executor/spec/project",
            "the resource comes from the event, and executor.allow does not list what may be run",
            "For example allow: [web, 'svc-*'].",
        )
    for index, pattern in enumerate(executor.allow if open_project else ()):
        if "/" not in pattern:
            check.say("RC1265", f"/spec/executor/allow/{index}", "the project is a template: write PROJECT/PIPELINE here")


def _templates(value: Json, pointer: str, known: Mapping[str, set[str]], check: _Check) -> None:
    """Check every template below ``value``, each at its own place. ``known``: valid names by root, besides those of events."""
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
            check.say("RC1302", pointer, str(error), "A template is a look-up, not code.")


def _template(path: str, pointer: str, known: Mapping[str, set[str]], check: _Check) -> None:
    root, _, name = path.partition(".")
    if root == "event" or name in known.get(root, ()):
        return
    if root not in known:
        roots = ", ".join(f"{allowed}.…" for allowed in (*known, "event"))
        check.say("RC1302", pointer, f"${{{{ {path} }}}} cannot be used here", f"Allowed here: {roots}")
    elif (root, name) not in check.named:  # a missing declaration is one error, however often the name is used
        check.named.add((root, name))
        near = difflib.get_close_matches(name, sorted(known[root]), n=1)
        hint = f"Did you mean {root}.{near[0]}?" if near else f"Its {root}: {', '.join(sorted(known[root])) or 'none'}."
        check.say("RC1302", pointer, f"${{{{ {path} }}}} names no {root.rstrip('s')} of this stage", hint)


__all__ = ["check_document"]
