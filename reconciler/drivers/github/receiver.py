"""Webhooks of GitHub: proved by an HMAC over the raw body, sent once without a retry, and listed by their sender for days.

Facts: GitHub's documentation "Validating webhook deliveries" and its OpenAPI description of hook deliveries. Only the body is
signed: the delivery's id and the event's name are headers that whoever captured a body could exchange.

From the bytes of a GitHub webhook to a `Delivery`. Pure.

The body is ``application/json``, or a form with one field ``payload``; which of them, the body itself tells, for the header that
says so is not signed. Payloads are hints and may hold anything: nothing here trusts their shape.

Whether a payload can be of one occurrence only, so that an equal one is the same event said again. Pure.

GitHub signs the body and neither the id nor the event's name: a captured body may come again under another id and name. So this
is told by the payload itself, by an id or a time in it that no second occurrence has. Where there is none (somebody joins a team,
leaves and joins again) two equal payloads are two events, and only GitHub's id tells a repetition.
Facts: GitHub's "Webhook events and payloads" and its example payloads.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from reconciler.drivers.base import Api
from reconciler.drivers.github import api as names
from reconciler.drivers.github.api import epoch_of, following
from reconciler.drivers.http.paging import ListBound, paginate
from reconciler.model.errors import NotFound, ProviderProtocolError
from reconciler.model.events import Delivery, Hook, PastDelivery, Refusal, Rejection
from reconciler.model.objects import Scope
from reconciler.model.resources import Resource, ResourceId
from reconciler.model.secrets import SecretValue

SIGNATURE = "x-hub-signature-256"
PER_PAGE = 100
LATE_S = 60.0
"""A delivery is listed when its attempt is over, so that the list is in order but for this."""
_ANSWERED = range(200, 400)
"""What the API itself calls a success (``status=success``)."""


class GitHubReceiver:
    """Implements `reconciler.drivers.base.Receiver`."""

    keeps_deliveries = True
    signs_body = True

    def verify(self, headers: Mapping[str, str], body: bytes, keys: Sequence[SecretValue], *, now: float) -> Delivery | Rejection:
        """Return the delivery, if one of ``keys`` signed it.

        Only ``X-Hub-Signature-256`` counts: ``sha256=`` and 64 hex digits, in either case. SHA-1 is ignored. GitHub signs no
        time: what is too old is told by the payload.
        """
        signature = headers.get(SIGNATURE, "").strip()
        if not signature:
            return Rejection(Refusal.UNSIGNED, "the hook at GitHub has no secret")
        key = signed_by(body, signature, keys)
        return Rejection(Refusal.WRONG) if key is None else delivery_of(headers, body, key)

    async def missed(self, api: Api, source: Resource, hooks: Sequence[Hook], since: float) -> tuple[PastDelivery, ...]:
        """Return the events that GitHub sent, or tried to send, after ``since``: each once, pings too, oldest first.

        Raises `NotFound` when one of ``hooks`` is gone, or out of reach: what it would have told is then not known.
        """
        by_guid: dict[str, list[tuple[Hook, Mapping[str, Any]]]] = {}
        for hook in hooks:
            for row in await following(api, _root(hook), partial(_listed, api, hook, since)):
                by_guid.setdefault(row["guid"], []).append((hook, row))
        found = (_folded(guid, rows) for guid, rows in by_guid.items())
        return tuple(sorted(found, key=lambda one: (one.at, one.id)))

    async def redeliver(self, api: Api, hook: Hook, past: PastDelivery) -> bool:
        """Ask GitHub to send it again: the same GUID and payload, signed with the hook's secret as it is now."""
        await following(api, _root(hook), lambda root: api.request("POST", f"{_delivery_path(root, hook, past)}/attempts"))
        return True

    async def fetch(self, api: Api, hook: Hook | None, past: PastDelivery) -> Delivery:
        """Return the event as GitHub keeps it; raises `NotFound` once that is too long ago (three days, seven on a server).

        The bytes that were signed are not kept: the payload is written anew, in the form that `delivery_of` gives
        every payload. Where that should differ all the same, the GUID still tells that it is one event.
        """
        where = hook or _hook_of(past)
        answer = await following(api, _root(where), lambda root: api.request("GET", _delivery_path(root, where, past)))
        shown = answer.json()
        request = shown.get("request") if isinstance(shown, Mapping) else None
        sent = request.get("headers") if isinstance(request, Mapping) else None
        payload = request.get("payload") if isinstance(request, Mapping) else None
        if not isinstance(payload, str | Mapping) or shown.get("guid") != past.id or not isinstance(shown.get("event"), str):
            raise ProviderProtocolError(f"GitHub shows delivery {past.ref} without its payload, event or GUID")
        headers = {str(key).lower(): str(value) for key, value in sent.items()} if isinstance(sent, Mapping) else {}
        try:
            body = payload.encode() if isinstance(payload, str) else orjson.dumps(payload)
        except (ValueError, orjson.JSONEncodeError):
            raise ProviderProtocolError(f"GitHub shows delivery {past.ref} with a payload that is no JSON document") from None
        return delivery_of({**headers, DELIVERY: past.id, EVENT: shown["event"]}, body, 0)


async def _listed(api: Api, hook: Hook, since: float, root: str) -> list[Mapping[str, Any]]:
    """Return the attempts of a hook that ended after ``since``, newest first. GitHub pages by a cursor, newest first."""
    path, rows = f"{root}/hooks/{hook.external_id}/deliveries", []
    bound = ListBound(path)
    async for page in paginate(api, path, params={"per_page": PER_PAGE}, bound=bound):
        body = page.json()
        if not isinstance(body, list) or not all(_usable(row) for row in body):
            raise ProviderProtocolError(f"GET {path}: no list of deliveries", request=f"GET {path}")
        bound.count(len(body))
        rows += [row for row in body if _at(row) > since]
        if body and _at(body[-1]) < since - LATE_S:
            break
    return rows


def _usable(row: Any) -> bool:
    """Whether a row tells all that is needed."""
    return (
        isinstance(row, Mapping)
        and isinstance(row.get("id"), int)
        and isinstance(row.get("guid"), str)
        and isinstance(row.get("event"), str)
        and isinstance(row.get("status_code"), int)
        and epoch_of(row.get("delivered_at")) is not None
    )


def _at(row: Mapping[str, Any]) -> float:
    return epoch_of(row["delivered_at"]) or 0.0


def _folded(guid: str, attempts: Sequence[tuple[Hook, Mapping[str, Any]]]) -> PastDelivery:
    """Return one event of all its attempts: a GUID is that of the event, in every hook and every redelivery."""
    hook, newest = max(attempts, key=lambda one: (_at(one[1]), one[1]["id"]))
    return PastDelivery(
        id=guid,
        ref=str(newest["id"]),
        type=newest["event"],
        at=min(_at(row) for _, row in attempts),
        arrived=any(row["status_code"] in _ANSWERED for _, row in attempts),
        detail={"hook": hook.external_id, "scope_type": hook.scope_type, "scope_key": hook.scope_key, "source": hook.source.path},
    )


def _root(hook: Hook) -> str:
    return names.scope_path(Scope(hook.scope_type, hook.scope_key))


def _delivery_path(root: str, hook: Hook, past: PastDelivery) -> str:
    return f"{root}/hooks/{hook.external_id}/deliveries/{past.ref}"


def _hook_of(past: PastDelivery) -> Hook:
    """Return the hook in whose list ``past`` stood, when nobody has it any more."""
    detail = past.detail
    if not detail.get("hook"):
        raise NotFound(f"of which hook delivery {past.ref} was is not known")
    return Hook(
        ResourceId.from_path(str(detail["source"])), str(detail["scope_type"]), str(detail["scope_key"]), str(detail["hook"])
    )


EVENT = "x-github-event"
DELIVERY = "x-github-delivery"
UNKNOWN = "unknown"
MAX_ID = 200
_KEPT = (
    *("content-type", "user-agent", EVENT, DELIVERY, "x-github-hook-id"),
    *("x-github-hook-installation-target-id", "x-github-hook-installation-target-type"),
)
_PROOF = re.compile(r"sha256=([0-9a-fA-F]{64})")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_FORM = b"payload="
_TIMES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "push": (("repository", "pushed_at"), ("head_commit", "timestamp")),
    "workflow_run": (("workflow_run", "updated_at"),),
    "workflow_job": (("workflow_job", "created_at"), ("workflow_job", "started_at"), ("workflow_job", "completed_at")),
    "deployment": (("deployment", "created_at"), ("deployment", "updated_at")),
    "deployment_status": (("deployment_status", "created_at"), ("deployment_status", "updated_at")),
    "status": (("created_at",), ("updated_at",)),
    "pull_request": (("pull_request", "updated_at"),),
    "check_run.completed": (("check_run", "completed_at"),),
    "check_suite.completed": (("check_suite", "updated_at"),),
    "release.published": (("release", "published_at"),),
}
"""Where an event's payload has the time at which it happened. Other events are left out: they may be about old things (a release
that is edited, a label), and what seems old is refused."""


def signed_by(body: bytes, signature: str, keys: Sequence[SecretValue]) -> int | None:
    """Return the number of the first key that made ``signature``; every key is tried, whatever was found. An empty one proves nothing.

    What is no signature at all takes as long as a wrong one.
    """
    given = _PROOF.fullmatch(signature)
    digest = bytes.fromhex(given[1]) if given is not None else b""
    proof: int | None = None
    for number, key in enumerate(keys):
        expected = hmac.new(key.reveal().encode(), body, hashlib.sha256).digest()
        if hmac.compare_digest(expected, digest) and key and proof is None:
            proof = number
    return proof


def delivery_of(headers: Mapping[str, str], body: bytes, key: int) -> Delivery:
    """Return what a body that is proved becomes; ``headers`` have names in lower case.

    Its ``body`` is the payload in one form (JSON without spaces, keys in their order, which is how GitHub writes it), so that a
    delivery, the same one as a form, and the same one read from the API are equal. ``identity`` is the digest of that where it can
    be of one occurrence only (`is_unique`): whoever sends such a body again under an invented id, or as another event, has no
    second effect.
    """
    kept = {name: headers[name][:MAX_ID] for name in _KEPT if name in headers}
    payload, document, problem = _read(body)
    digest = f"sha256:{hashlib.sha256(document).hexdigest()}"
    given, event = headers.get(DELIVERY, ""), headers.get(EVENT, "")
    if not problem and not _NAME.fullmatch(event):
        problem = "no X-GitHub-Event names the event"
    event = event if _NAME.fullmatch(event) else UNKNOWN
    return Delivery(
        id=given if 1 <= len(given) <= MAX_ID and given.isascii() and given.isprintable() else digest,
        type=event,
        body=document,
        identity=digest if problem or is_unique(payload) else "",
        occurred_at=None if problem else occurred_at(event, payload),
        headers=kept,
        key=key,
        problem=problem,
    )


def occurred_at(event: str, payload: Mapping[str, Any]) -> float | None:
    """Return when it happened by the payload's newest time (epoch seconds), None where it does not tell."""
    paths = _TIMES.get(event) or _TIMES.get(f"{event}.{payload.get('action')}", ())
    times = [at for at in (epoch_of(_value_at(payload, path)) for path in paths) if at is not None]
    return max(times, default=None)


def _read(body: bytes) -> tuple[Mapping[str, Any], bytes, str]:
    """Return the payload, its one form, and what is wrong with it; without a payload the form is the body as it came."""
    text = unquote_to_bytes(body[len(_FORM) :].partition(b"&")[0].replace(b"+", b" ")) if body.startswith(_FORM) else body
    try:
        payload = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}, body, "the payload is not JSON"
    if not isinstance(payload, dict):
        return {}, body, "the payload is no object"
    try:
        return payload, orjson.dumps(payload), ""
    except orjson.JSONEncodeError:
        return {}, body, "the payload is nested too deep"


def _value_at(value: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


@dataclass(frozen=True, slots=True)
class _Shape:
    """Payloads that have the object ``key``, none of ``without``, and one of ``actions`` (empty: any but ``unmoved``)."""

    key: str
    mark: str
    """Field of the object: an id, where the action happens once to one object; else a time that every such action moves."""
    actions: frozenset[str] = frozenset()
    unmoved: frozenset[str] = frozenset()
    """Actions that leave the time as it is."""
    without: frozenset[str] = frozenset()

    def tells(self, payload: Mapping[str, Any]) -> bool:
        found, action = payload.get(self.key), payload.get("action")
        if not isinstance(found, Mapping) or found.get(self.mark) is None or self.without & payload.keys():
            return False
        return action in self.actions if self.actions else action not in self.unmoved


def _once(key: str, *actions: str, mark: str = "id", without: frozenset[str] = frozenset()) -> _Shape:
    return _Shape(key, mark, frozenset(actions), without=without)


def _moving(key: str, *unmoved: str, without: frozenset[str] = frozenset()) -> _Shape:
    return _Shape(key, "updated_at", unmoved=frozenset(unmoved), without=without)


_ABOUT_OTHERS = frozenset({"comment", "review", "thread"})
_QUIET = ("locked", "unlocked", "pinned", "unpinned")
_SHAPES = (
    _once("workflow_run", "requested", "in_progress", "completed"),
    _once("workflow_job", "queued", "waiting", "in_progress", "completed"),
    _once("check_run", "created", "completed"),
    _once("check_suite", "requested", "completed", mark="updated_at"),
    _once("deployment_status", "created"),
    _once("deployment", "created", without=frozenset({"deployment_status"})),
    _once("release", "created", "deleted"),
    _once("release", "published", mark="published_at"),
    _once("comment", "created", "deleted"),
    _once("comment", "edited", mark="updated_at"),
    _once("review", "submitted", mark="submitted_at"),
    _once("review", "dismissed"),
    _once("key", "created", "deleted"),
    _once("milestone", "created", "deleted"),
    _Shape("merge_group", "head_sha"),
    _moving("pull_request", *_QUIET, without=_ABOUT_OTHERS),
    _moving("issue", *_QUIET, without=_ABOUT_OTHERS),
    _moving("discussion", *_QUIET, without=_ABOUT_OTHERS),
    *(_moving(key) for key in ("package", "registry_package", "alert", "repository_advisory", "security_advisory")),
    *(_moving(key) for key in ("project", "project_card", "project_column", "projects_v2_item", "projects_v2_status_update")),
    *(_moving(key) for key in ("repository_ruleset", "rule")),
)
_OF_EVERY_PAYLOAD = frozenset({"action", "repository", "organization", "sender", "enterprise", "installation"})
_STATUS = frozenset({"id", "sha", "state", "context"})


def is_unique(payload: Mapping[str, Any]) -> bool:
    """Whether ``payload`` has an id or a time that no other occurrence has."""
    return any(shape.tells(payload) for shape in _SHAPES) or _is_unique_without_object(payload)


def _is_unique_without_object(payload: Mapping[str, Any]) -> bool:
    repository, action = payload.get("repository"), payload.get("action")
    repository = repository if isinstance(repository, Mapping) else {}
    if "after" in payload:  # a push; its repository has the time, since a branch may go to and fro between two commits
        return True
    if payload.keys() >= _STATUS or "build" in payload:
        return payload.get("id") is not None
    if payload.get("starred_at") is not None or "pages" in payload:  # a page's sha is of a commit, which has a time
        return True
    if "forkee" in payload:
        return True
    alone = payload.keys() <= _OF_EVERY_PAYLOAD  # of the repository itself
    return alone and action in ("created", "deleted") and repository.get("id") is not None
