"""What fits its schema and still can never work, found in one document: nothing of this needs a provider. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from reconciler.drivers.capabilities import ExecutorRule
from reconciler.drivers.specs import OBJECT_KINDS, spec_of
from reconciler.manifests.objects import repeatable
from reconciler.manifests.providers import account_problem
from reconciler.manifests.schedules import never_fires
from reconciler.manifests.templates import has_template, looks_like_template
from reconciler.manifests.yaml import escape
from reconciler.model.executions import UNSETTABLE_HEADERS
from reconciler.model.resources import Lifecycle

DAY_S = 86_400.0
_TEMPLATE = "${{"
_TEMPLATES = re.compile(r"\$\{\{[^}]*\}\}")
_FREE = frozenset({
    "description", "reason", "expression", "successWhen", "failureWhen", "payload", "clientPayload", "parameters", "variables",
    "inputs", "value", "pattern", "config", "local", "lifecycle",
})  # fmt: skip
"""Keys of text that may have several lines, or that others read."""
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_WRITTEN_OUT = (
    "Write scheme, host and port out; templates may follow after the host, as in https://deploy.example/${{ inputs.ID }}."
)


@dataclass(frozen=True, slots=True)
class Found:
    """A problem at a place of the document."""

    code: str
    pointer: str
    message: str
    hint: str = ""


def impossible(kind: str, spec: Mapping[str, Any], lifecycle: Lifecycle) -> Iterator[Found]:
    """Yield what of a document that fits its schema no apply and no event can ever make work."""
    yield from _lines(spec, "/spec")
    yield from _lifecycle(lifecycle)
    if kind == "Integration":
        yield from _integration(spec)
    elif kind == "EventSource":
        yield from _event_source(spec)
    elif kind == "Stage":
        yield from _stage(spec)
    elif kind == "ConnectionGroup":
        yield from _group(spec)
    elif kind == "Secret":
        yield from _secret(spec)
    elif kind in OBJECT_KINDS:
        for items, pointer, what in repeatable(OBJECT_KINDS[kind][1], spec):
            yield from _twice(items, pointer, what)


def called_urls(kind: str, spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (pointer, URL) of what the daemon itself would call, as far as it is written out; a template in front of the path is a
    mistake of its own.
    """
    executor = spec.get("executor", {})
    inner = executor.get("spec", {}) if executor.get("type") == "http" else {}
    urls = {
        "/spec/url": spec.get("url") if kind == "Integration" else None,
        "/spec/apiUrl": spec.get("apiUrl"),
        "/spec/vault/address": spec.get("vault", {}).get("address"),
        "/spec/executor/spec/url": inner.get("url"),
        "/spec/executor/spec/poll/url": inner.get("poll", {}).get("url"),
    }
    for pointer, url in urls.items():
        if isinstance(url, str) and _TEMPLATE not in "".join(url.split("/", 3)[:3]):
            yield pointer, url.partition(_TEMPLATE)[0]


def _lines(value: Any, pointer: str) -> Iterator[Found]:
    """Names, URLs and the like are one line, without a space at an end: no provider has one that is not."""
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
            "RC1278", "/spec/lifecycle/interval", "an interval of 0 is none", "Leave it out for that of the configuration."
        )
    yield from _twice([rule.path for rule in lifecycle.ignore], "/spec/lifecycle/ignore", "path")


def _twice(values: Iterable[Any], pointer: str, what: str, *, fold: bool = False) -> Iterator[Found]:
    seen: list[Any] = []
    for index, value in enumerate(values):
        key = value.casefold() if fold and isinstance(value, str) else value
        if key in seen:
            yield Found("RC1208", f"{pointer}/{index}", f"the {what} is given twice", "Keep one of them.")
        else:
            seen.append(key)


def _integration(spec: Mapping[str, Any]) -> Iterator[Found]:
    for key in ("url", "apiUrl"):
        if key in spec:
            yield from _address(spec[key], f"/spec/{key}", query=False)
    wrong = account_problem(spec["type"], spec["url"]) if "url" in spec else None
    if wrong is not None:
        yield Found("RC1276", "/spec/url", *wrong)
    auth = spec["auth"]
    if auth.get("oidc", {}).get("duration") == 0:
        yield Found("RC1278", "/spec/auth/oidc/duration", "a credential that is good for 0 seconds opens nothing")
    if auth.get("roleAssumptions") == []:
        yield Found("RC1278", "/spec/auth/roleAssumptions", "the list of roles is empty", "Name a role, or leave the key out.")


def _address(url: str, pointer: str, *, query: bool = True) -> Iterator[Found]:
    """The spelling of a URL that is called: readable, without credentials, and with a template only behind the host: the
    configuration opens hosts for everybody, and a person says in the manifest which of them is meant.
    """
    scheme, _, rest = url.partition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if _TEMPLATE in scheme or _TEMPLATE in host:
        yield Found("RC1279", pointer, "the host is a template: an event could choose what is called", _WRITTEN_OUT)
        return
    if scheme.lower() not in {"http", "https"} or not host:
        yield Found("RC1279", pointer, "it is no http(s)://HOST/…", "For example https://deploy.example/jobs.")
        return
    if "@" in host:
        hint = "Put it into a Secret, and send it by `auth`, or in a header by `${{ secrets.NAME }}`."
        yield Found("RC1279", pointer, "the URL holds a user name or password", hint)
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


def _event_source(spec: Mapping[str, Any]) -> Iterator[Found]:
    kind = spec.get("type")
    for block in ("schedule", "webhook"):
        if block in spec and kind != block:
            yield Found("RC1206", f"/spec/{block}", f"{block} goes with type {block}")
    yield from _twice(spec.get("events", ()), "/spec/events", "event")
    cron = spec.get("schedule", {}).get("cron")
    if cron is not None and never_fires(cron):
        yield Found("RC1278", "/spec/schedule/cron", f"{cron!r} never fires: no month that it names has such a day")


def _stage(spec: Mapping[str, Any]) -> Iterator[Found]:
    if spec.get("timeout") == 0:
        yield Found("RC1278", "/spec/timeout", "nothing ends within 0 seconds", "Leave it out for 6 hours.")
    for index, condition in enumerate(spec.get("conditions", ())):
        yield from _condition(condition, f"/spec/conditions/{index}")
    executor = spec["executor"]
    yield from _untemplated(spec)
    yield from _executor(executor["type"], executor.get("spec", {}))


def _condition(condition: Mapping[str, Any], at: str) -> Iterator[Found]:
    approval = condition.get("approval", {})
    approvers, count = approval.get("approvers"), approval.get("count", 1)
    if approvers is not None and len(approvers) < count:
        said = "nobody may approve" if not approvers else f"{count} approvals are needed, and {len(approvers)} may approve"
        yield Found("RC1278", f"{at}/approval/approvers", said, "Name enough approvers; without the key everybody may approve.")
    yield from _twice(condition.get("timeWindow", {}).get("weekDays", ()), f"{at}/timeWindow/weekDays", "day")


def _untemplated(spec: Mapping[str, Any]) -> Iterator[Found]:
    """Templates are replaced in `executor.spec`, `executor.name`, `executor.resource.name`, `report` and values of mappings.

    Elsewhere they stay text.
    """
    executor = spec["executor"]
    inner = executor.get("spec", {})
    poll = inner.get("poll") if isinstance(inner.get("poll"), Mapping) else {}
    fixed = {key: value for key, value in executor.get("resource", {}).items() if key != "name" or not has_template(value)}
    places = [(fixed, "/spec/executor/resource"), (executor.get("allow"), "/spec/executor/allow")]
    places += [(poll.get(key), f"/spec/executor/spec/poll/{key}") for key in ("successWhen", "failureWhen")]
    places += [(spec.get(key), f"/spec/{key}") for key in ("conditions", "inputs", "connections")]
    places += [
        (value.get("valueFrom"), f"/spec/inputMappings/{index}/values/{number}/valueFrom")
        for index, mapping in enumerate(spec.get("inputMappings", ()))
        for number, value in enumerate(mapping["values"])
    ]
    for value, pointer in places:
        yield from _no_template(value, pointer)


def _no_template(value: Any, pointer: str) -> Iterator[Found]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key != "description":
                yield from _no_template(item, f"{pointer}/{escape(str(key))}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _no_template(item, f"{pointer}/{index}")
    elif isinstance(value, str) and looks_like_template(value):
        hint = (
            "Templates are replaced in executor.spec (not in conditions), executor.name, executor.resource.name, report and the "
            "values of mappings."
        )
        yield Found("RC1302", pointer, "a template is not replaced here", hint)


def _executor(kind: str, inner: Mapping[str, Any]) -> Iterator[Found]:
    at = "/spec/executor/spec"
    if kind == "http":
        yield from _http(inner, at)
    rule = spec_of(kind).executor or ExecutorRule(resource="")
    for key, most in rule.most_keys.items():
        if len(inner.get(key, {})) > most:
            yield Found("RC1278", f"{at}/{key}", f"{key} has more than {most} keys", rule.most_keys_hint)


def _http(inner: Mapping[str, Any], at: str) -> Iterator[Found]:
    poll = inner.get("poll", {})
    urls = {f"{at}/url": inner.get("url"), f"{at}/poll/url": poll.get("url")}
    for pointer, url in urls.items():
        if url is not None:
            yield from _address(url, pointer)
    origins = {url.split("/", 3)[2].casefold() for url in urls.values() if url and url.count("/") >= 2}
    if len(origins) == 2 and not any(_TEMPLATE in origin for origin in origins):
        yield Found("RC1278", f"{at}/poll/url", "poll.url is not on the host of url", "One execution talks to one host.")
    if poll.get("interval") == 0:
        yield Found("RC1278", f"{at}/poll/interval", "an interval of 0 is none", "Leave it out for 15 seconds.")
    for name, value in inner.get("headers", {}).items():
        if name.lower() in UNSETTABLE_HEADERS:
            hint = "It is written by the daemon; what stands here would not be sent. Leave it out."
            yield Found("RC1278", f"{at}/headers/{escape(name)}", f"the header {name} cannot be set", hint)
            continue
        sent = value.isascii() and value.isprintable()
        if not _HEADER_NAME.match(name) or not (sent or _TEMPLATE in value):
            yield Found(
                "RC1278", f"{at}/headers/{escape(name)}", "the header cannot be sent", "A value is one line of printable ASCII."
            )


def _group(spec: Mapping[str, Any]) -> Iterator[Found]:
    timeout = spec.get("timeout", 0)
    if timeout and not 60 <= timeout <= DAY_S:
        yield Found("RC1278", "/spec/timeout", "a group waits 60 seconds to a day", "Or 0: without end.")
    yield from _twice([one["name"] for one in spec["groupBy"]["fields"]], "/spec/groupBy/fields", "field")
    for index, field in enumerate(spec["groupBy"]["fields"]):
        yield from _no_template(field["expression"], f"/spec/groupBy/fields/{index}/expression")
    yield from _no_template(spec["connections"], "/spec/connections")


def _secret(spec: Mapping[str, Any]) -> Iterator[Found]:
    paths = {f"/spec/data/{escape(key)}/path": one["path"] for key, one in spec.get("data", {}).items() if "path" in one}
    if "sops" in spec:
        paths["/spec/sops/path"] = spec["sops"].get("path", "x")
    for pointer, path in paths.items():
        if path.endswith("/") or path.rpartition("/")[2] in {".", ".."}:
            yield Found("RC1276", pointer, "the path names a folder, not a file")
    if "address" in spec.get("vault", {}):
        yield from _address(spec["vault"]["address"], "/spec/vault/address", query=False)


__all__ = ["Found", "called_urls", "impossible"]
