"""Values that match the schema and can never work, as far as one document alone shows it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from reconciler.drivers.capabilities import ExecutorRule
from reconciler.drivers.specs import OBJECT_KINDS, spec_of
from reconciler.manifests.identity import auth_problems
from reconciler.manifests.kinds import (
    AuthSpec,
    ConditionSpec,
    ConnectionGroupSpec,
    EventSourceSpec,
    IntegrationSpec,
    StageSpec,
)
from reconciler.manifests.objects import repeatable
from reconciler.manifests.providers import account_problem
from reconciler.manifests.schedules import never_fires
from reconciler.manifests.secret_spec import SecretSpec
from reconciler.manifests.templates import has_template, starts_template
from reconciler.model.executions import UNSETTABLE_HEADERS
from reconciler.model.json import Json, JsonMap, as_list, as_map, at, escape, text_at
from reconciler.model.resources import Lifecycle
from reconciler.model.specs import Spec

DAY_S = 86_400.0
SHORTEST_SESSION_S, LONGEST_SESSION_S = 900.0, 43_200.0
CHAINED_S = 3_600.0
_TEMPLATE = "${{"
_TEMPLATES = re.compile(r"\$\{\{[^}]*\}\}")
_FREE = frozenset({
    "description", "reason", "expression", "successWhen", "failureWhen", "payload", "clientPayload", "parameters", "variables",
    "inputs", "value", "pattern", "config", "local", "lifecycle",
})  # fmt: skip
"""Keys whose text may have several lines, or is checked elsewhere."""
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_WRITTEN_OUT = (
    "Write out scheme, host and port; templates may follow after the host, as in https://deploy.example/${{ inputs.ID }}."
)


@dataclass(frozen=True, slots=True)
class Found:
    """A problem at a place of the document."""

    code: str
    pointer: str
    message: str
    hint: str = ""


def impossible(spec: Spec, raw: JsonMap, lifecycle: Lifecycle) -> Iterator[Found]:
    """Yield each value of a document that cannot work, whatever is applied and whatever event arrives; ``raw`` is ``spec`` as a mapping."""
    yield from _lines(raw, "/spec")
    yield from _lifecycle(lifecycle)
    if isinstance(spec, IntegrationSpec):
        yield from _integration(spec)
    elif isinstance(spec, EventSourceSpec):
        yield from _event_source(spec, raw)
    elif isinstance(spec, StageSpec):
        yield from _stage(spec, raw)
    elif isinstance(spec, ConnectionGroupSpec):
        yield from _group(spec, raw)
    elif isinstance(spec, SecretSpec):
        yield from _secret(spec)
    for _, rules in OBJECT_KINDS.values():
        for items, pointer, what in repeatable(rules, raw) if isinstance(spec, rules.spec) else ():
            yield from _twice(items, pointer, what)


def called_urls(kind: str, spec: JsonMap) -> Iterator[tuple[str, str]]:
    """Yield (pointer, URL) of each URL that the daemon would call, up to its first template.

    A URL with a template before its path is left out: that is an error of its own.
    """
    executor = as_map(spec.get("executor"))
    inner = executor.get("spec") if executor.get("type") == "http" else None
    urls = {
        "/spec/url": spec.get("url") if kind == "Integration" else None,
        "/spec/apiUrl": spec.get("apiUrl"),
        "/spec/vault/address": at(spec, "vault", "address"),
        "/spec/executor/spec/url": at(inner, "url"),
        "/spec/executor/spec/poll/url": at(inner, "poll", "url"),
        **{f"/spec/sink/{sink}/url": at(spec, "sink", sink, "url") for sink in as_map(spec.get("sink"))},
    }
    for pointer, url in urls.items():
        if isinstance(url, str) and _TEMPLATE not in "".join(url.split("/", 3)[:3]):
            yield pointer, url.partition(_TEMPLATE)[0]


def _lines(value: Json, pointer: str) -> Iterator[Found]:
    """Yield each name and URL that is not one line without white space at its ends."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key not in _FREE:
                yield from _lines(item, f"{pointer}/{escape(str(key))}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _lines(item, f"{pointer}/{index}")
    elif isinstance(value, str) and value and (value != value.strip() or re.search(r"[\t\r\n]", value)):
        hint = "Write it in one line; a block (`|` or `>`) ends with a line break unless it is `|-` or `>-`."
        yield Found("RC1276", pointer, "the value starts or ends with white space, or has a line break or tab in it", hint)


def _lifecycle(lifecycle: Lifecycle) -> Iterator[Found]:
    if lifecycle.interval_s == 0:
        yield Found(
            "RC1278",
            "/spec/lifecycle/interval",
            "an interval must be more than 0 seconds",
            "Leave it out for the one of the configuration.",
        )
    yield from _twice([rule.path for rule in lifecycle.ignore], "/spec/lifecycle/ignore", "path")


def _twice(values: Iterable[object], pointer: str, what: str, *, fold: bool = False) -> Iterator[Found]:
    seen: list[object] = []
    for index, value in enumerate(values):
        key = value.casefold() if fold and isinstance(value, str) else value
        if key in seen:
            yield Found("RC1208", f"{pointer}/{index}", f"the {what} is given twice", "Keep one of them.")
        else:
            seen.append(key)


def _integration(spec: IntegrationSpec) -> Iterator[Found]:
    for key, url in (("url", spec.url), ("apiUrl", spec.api_url)):
        if url is not None:
            yield from _address(url, f"/spec/{key}", query=False)
    invalid = account_problem(spec.type, spec.url) if spec.url is not None else None
    if invalid is not None:
        yield Found("RC1276", "/spec/url", *invalid)
    yield from _sessions(spec.auth)
    if spec.auth.role_assumptions == ():
        yield Found("RC1278", "/spec/auth/roleAssumptions", "the list of roles is empty", "Name a role, or leave the key out.")


def _sessions(auth: AuthSpec) -> Iterator[Found]:
    """Check how long sessions last. One that is opened by another session lasts an hour at most; a longer one is refused."""
    first, roles = auth.oidc if auth.use == "oidc" else None, auth.role_assumptions or ()
    if auth.oidc is not None:
        yield from _duration(auth.oidc.duration, "/spec/auth/oidc/duration", LONGEST_SESSION_S)
    for index, role in enumerate(roles):
        chained = first is not None or index > 0
        yield from _duration(
            role.duration, f"/spec/auth/roleAssumptions/{index}/duration", CHAINED_S if chained else LONGEST_SESSION_S
        )


def _duration(duration: float | None, pointer: str, most_s: float) -> Iterator[Found]:
    if duration is None or SHORTEST_SESSION_S <= duration <= most_s:
        return
    chained = most_s == CHAINED_S and duration > most_s
    why = (
        "a role that is assumed with the session of another role lasts 1 hour at most"
        if chained
        else "a session lasts 15 minutes to 12 hours"
    )
    hint = (
        "Write `1h` or less, or leave it out for 1 hour."
        if chained
        else "Write for example `15m`, `1h` or `12h`; without it, 1 hour."
    )
    yield Found("RC1278", pointer, f"{duration:.0f} seconds: {why}", hint)


def _address(url: str, pointer: str, *, query: bool = True) -> Iterator[Found]:
    """Check the spelling of a URL that is called: without credentials, and with templates only after the host.

    The configuration allows hosts for every manifest; which of them is called must be visible in the manifest.
    """
    scheme, _, rest = url.partition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if _TEMPLATE in scheme or _TEMPLATE in host:
        yield Found("RC1279", pointer, "the host is a template: an event could choose what is called", _WRITTEN_OUT)
        return
    if scheme.lower() not in {"http", "https"} or not host:
        yield Found("RC1279", pointer, "the URL must have the form http(s)://HOST/…", "For example https://deploy.example/jobs.")
        return
    if "@" in host:
        hint = "Put it into a Secret, and send it by `auth`, or in a header by `${{ secrets.NAME }}`."
        yield Found("RC1279", pointer, "the URL must not contain a user name or password", hint)
        return
    try:
        parts = urlsplit(f"{scheme}://{host}")
        readable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        readable = False
    if not readable:
        yield Found("RC1279", pointer, "host or port of the URL cannot be read")
    elif not query and ("?" in url or "#" in url):
        yield Found(
            "RC1276", pointer, "the URL has a query or a fragment", "Paths are appended to it: end it before `?` and `#`."
        )


def _event_source(spec: EventSourceSpec, raw: JsonMap) -> Iterator[Found]:
    for key, block in (("schedule", spec.schedule), ("webhook", spec.webhook)):
        if block is not None and spec.type != key:
            yield Found("RC1206", f"/spec/{key}", f"{key} goes with type {key}")
    yield from _twice(as_list(raw.get("events")), "/spec/events", "event")
    cron = spec.schedule.cron if spec.schedule is not None else None
    if cron is not None and never_fires(cron):
        yield Found("RC1278", "/spec/schedule/cron", f"{cron!r} never fires: none of its months has such a day")


def _stage(spec: StageSpec, raw: JsonMap) -> Iterator[Found]:
    if spec.timeout == 0:
        yield Found("RC1278", "/spec/timeout", "a timeout must be more than 0 seconds", "Leave it out for 6 hours.")
    for index, condition in enumerate(spec.conditions):
        yield from _condition(condition, f"/spec/conditions/{index}")
    yield from _untemplated(raw)
    yield from _executor(spec.executor.type, spec.executor.spec)
    for problem in auth_problems(spec):
        yield Found(*problem)


def _condition(condition: ConditionSpec, place: str) -> Iterator[Found]:
    approval, window = condition.approval, condition.time_window
    approvers = approval.approvers if approval is not None else None
    count = approval.count if approval is not None else 1
    if approvers is not None and len(approvers) < count:
        message = f"{count} approvals are needed, but only {len(approvers)} may approve" if approvers else "no one may approve"
        yield Found(
            "RC1278", f"{place}/approval/approvers", message, "Name enough approvers; without the key everyone may approve."
        )
    yield from _twice(window.week_days if window is not None else (), f"{place}/timeWindow/weekDays", "day")


def _untemplated(spec: JsonMap) -> Iterator[Found]:
    """Yield each template in a place where templates are not replaced.

    They are replaced in `executor.spec`, `executor.name`, `executor.resource.name`, `report` and values of mappings only.
    """
    executor = spec["executor"]
    resource = as_map(at(executor, "resource"))
    fixed = {key: value for key, value in resource.items() if key != "name" or not has_template(value)}
    places: list[tuple[Json, str]] = [(fixed, "/spec/executor/resource"), (at(executor, "allow"), "/spec/executor/allow")]
    places += [(at(executor, "spec", "poll", key), f"/spec/executor/spec/poll/{key}") for key in ("successWhen", "failureWhen")]
    places.append((at(executor, "spec", "auth"), "/spec/executor/spec/auth"))  # an event must not choose who calls
    places += [(spec.get(key), f"/spec/{key}") for key in ("conditions", "inputs", "connections")]
    places += [
        (at(value, "valueFrom"), f"/spec/inputMappings/{index}/values/{number}/valueFrom")
        for index, mapping in enumerate(as_list(spec.get("inputMappings")))
        for number, value in enumerate(as_list(at(mapping, "values")))
    ]
    for value, pointer in places:
        yield from _no_template(value, pointer)


def _no_template(value: Json, pointer: str) -> Iterator[Found]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key != "description":
                yield from _no_template(item, f"{pointer}/{escape(str(key))}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _no_template(item, f"{pointer}/{index}")
    elif isinstance(value, str) and starts_template(value):
        hint = (
            "Templates are replaced in executor.spec (not in auth and conditions), executor.name, executor.resource.name, report and the "
            "values of mappings."
        )
        yield Found("RC1302", pointer, "a template is not replaced here", hint)


def _executor(kind: str, inner: JsonMap) -> Iterator[Found]:
    place = "/spec/executor/spec"
    if kind == "http":
        yield from _http(inner, place)
    rule = spec_of(kind).executor or ExecutorRule(resource="")
    for key, most in rule.most_keys.items():
        if len(as_map(inner.get(key))) > most:
            yield Found("RC1278", f"{place}/{key}", f"{key} has more than {most} keys", rule.most_keys_hint)


def _http(inner: JsonMap, place: str) -> Iterator[Found]:
    urls = {f"{place}/url": text_at(inner, "url"), f"{place}/poll/url": text_at(inner, "poll", "url")}
    for pointer, url in urls.items():
        if url is not None:
            yield from _address(url, pointer)
    origins = {url.split("/", 3)[2].casefold() for url in urls.values() if url and url.count("/") >= 2}
    if len(origins) == 2 and not any(_TEMPLATE in origin for origin in origins):
        yield Found("RC1278", f"{place}/poll/url", "poll.url is not on the host of url", "One execution talks to one host.")
    if at(inner, "poll", "interval") == 0:
        hint = "Leave it out for 15 seconds."
        yield Found("RC1278", f"{place}/poll/interval", "an interval must be more than 0 seconds", hint)
    for name, value in as_map(inner.get("headers")).items():
        yield from _header(name, str(value), f"{place}/headers/{escape(name)}")


def _header(name: str, value: str, pointer: str) -> Iterator[Found]:
    if name.lower() in UNSETTABLE_HEADERS:
        hint = "The daemon sets it; this value would not be sent. Leave it out."
        yield Found("RC1278", pointer, f"the header {name} cannot be set", hint)
        return
    valid = value.isascii() and value.isprintable()
    if not _HEADER_NAME.match(name) or not (valid or _TEMPLATE in value):
        yield Found("RC1278", pointer, "the header cannot be sent", "A value is one line of printable ASCII.")


def _group(spec: ConnectionGroupSpec, raw: JsonMap) -> Iterator[Found]:
    if spec.timeout and not 60 <= spec.timeout <= DAY_S:
        yield Found("RC1278", "/spec/timeout", "the timeout of a group must be 60 seconds to a day", "0 means no timeout.")
    fields = spec.group_by.fields
    yield from _twice([field.name for field in fields], "/spec/groupBy/fields", "field")
    for index, field in enumerate(fields):
        yield from _no_template(field.expression, f"/spec/groupBy/fields/{index}/expression")
    yield from _no_template(raw["connections"], "/spec/connections")


def _secret(spec: SecretSpec) -> Iterator[Found]:
    paths = {f"/spec/data/{escape(key)}/path": entry.path for key, entry in spec.data.items() if entry.path is not None}
    for pointer, path in paths.items():
        if path.endswith("/") or path.rpartition("/")[2] in {".", ".."}:
            yield Found("RC1276", pointer, "the path names a folder, not a file")
    if spec.vault is not None:
        yield from _address(spec.vault.address, "/spec/vault/address", query=False)
        paths = {"/spec/vault/path": spec.vault.path, "/spec/vault/mount": spec.vault.mount}
        paths["/spec/vault/auth/mount"] = spec.vault.auth.mount or ""
    if spec.sops is not None:
        paths = {"/spec/sops/file": spec.sops.file}
    for pointer, path in paths.items():
        if {".", ".."} & set(path.split("/")):
            yield Found("RC1276", pointer, "the path contains . or ..", "Write it out, from the top.")


__all__ = ["Found", "called_urls", "impossible"]
