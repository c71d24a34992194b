"""Webhooks of GitHub: signed by an HMAC over the raw body, sent once without a retry, and listed by GitHub for some days.

Facts: GitHub's documentation "Validating webhook deliveries", "Webhook events and payloads" with its examples, and its OpenAPI
description of hook deliveries. Only the body is signed: whoever captured a body could exchange the delivery's id and the event's
name, which are headers. Payloads may hold anything: nothing here trusts their form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
import orjson

from reconciler.drivers.connection import Api
from reconciler.drivers.delivery import identity_of, kept_headers, oldest_first, signed_by
from reconciler.drivers.github import api as names
from reconciler.drivers.github.api import epoch_of
from reconciler.drivers.http.paging import ListBound
from reconciler.drivers.wire import decode, find, matches
from reconciler.model.errors import NotFound, ProviderProtocolError
from reconciler.model.events import Delivery, Hook, PastDelivery, Refusal, Rejection
from reconciler.model.objects import Scope
from reconciler.model.resources import Resource, ResourceId
from reconciler.model.secrets import SecretValue

Payload = Mapping[str, Any]
SIGNATURE = "x-hub-signature-256"
EVENT = "x-github-event"
DELIVERY = "x-github-delivery"
UNKNOWN = "unknown"
INSTALLATION = "installation"
"""Member of a payload that names the installation of the App that it was sent to."""
MAX_ID = 200
LATE_S = 60.0
"""GitHub lists a delivery when its attempt is over, so the list may be out of order by this much."""
_ANSWERED = range(200, 400)
"""What the API itself counts as a success (``status=success``)."""
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
"""Event → where its payload has the time of the event. Other events are omitted: they may be about old objects (an edited release,
a label), and an event that looks old is refused."""


class HookDelivery(msgspec.Struct, frozen=True):
    """An attempt to deliver an event, in the list of a hook. ``guid`` is the event's, in every hook and every redelivery."""

    id: int
    guid: str
    event: str
    status_code: int
    delivered_at: names.Moment


class DeliveryRequest(msgspec.Struct, frozen=True):
    """What GitHub sent: the payload as an object, or as the text of the body."""

    payload: dict[str, Any] | str
    headers: dict[str, Any] | None = None


class DeliveryDetail(msgspec.Struct, frozen=True):
    """One delivery with its request."""

    guid: str
    event: str
    request: DeliveryRequest


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """An attempt of a hook, and when it ended (epoch seconds)."""

    hook: Hook
    row: HookDelivery
    at: float


class GitHubReceiver:
    """Implements `reconciler.drivers.base.Receiver`."""

    keeps_deliveries = True
    signs_body = True

    def verify(self, headers: Mapping[str, str], body: bytes, keys: Sequence[SecretValue], *, now: float) -> Delivery | Rejection:
        """Return the delivery, if one of ``keys`` signed it.

        Only ``X-Hub-Signature-256`` counts: ``sha256=`` and 64 hex digits, in either case. SHA-1 is ignored. GitHub signs no
        time: the age of an event shows in its payload.
        """
        signature = headers.get(SIGNATURE, "").strip()
        if not signature:
            return Rejection(Refusal.UNSIGNED, "the hook at GitHub has no secret")
        proof = _PROOF.fullmatch(signature)
        key = signed_by(body, proof[1].lower() if proof is not None else "", keys)
        return Rejection(Refusal.WRONG) if key is None else delivery_of(headers, body, key)

    async def missed(self, api: Api, source: Resource, hooks: Sequence[Hook], since: float) -> tuple[PastDelivery, ...]:
        """Return the events that GitHub sent, or tried to send, after ``since``: each once, with pings, oldest first.

        Raises `NotFound` when one of ``hooks`` is gone or out of reach: its events are then unknown.
        """
        by_guid: dict[str, list[DeliveryAttempt]] = {}
        for hook in hooks:
            for attempt in await names.follow_rename(_root(hook), partial(_listed, api, hook, since)):
                by_guid.setdefault(attempt.row.guid, []).append(attempt)
        return oldest_first(map(_folded, by_guid.values()))

    async def redeliver(self, api: Api, hook: Hook, past: PastDelivery) -> bool:
        """Ask GitHub to send it again: the same GUID and payload, signed with the hook's current secret."""
        await names.follow_rename(_root(hook), lambda root: api.request("POST", f"{_delivery_path(root, hook, past)}/attempts"))
        return True

    async def fetch(self, api: Api, hook: Hook | None, past: PastDelivery) -> Delivery:
        """Return the event as GitHub keeps it; raises `NotFound` when it is too old (three days, seven on a server).

        GitHub does not keep the signed bytes: the payload is serialized again, in the form that `delivery_of` gives every
        payload. If that should differ, the GUID still identifies the event.
        """
        owner = hook or _hook_of(past)
        answer = await names.follow_rename(_root(owner), lambda root: api.request("GET", _delivery_path(root, owner, past)))
        detail = decode(answer.json(), DeliveryDetail, f"delivery {past.ref}")
        if detail.guid != past.id:
            raise ProviderProtocolError(f"GitHub shows another event as delivery {past.ref}")
        payload = detail.request.payload
        try:
            body = payload.encode() if isinstance(payload, str) else orjson.dumps(payload)
        except (ValueError, orjson.JSONEncodeError):
            raise ProviderProtocolError(f"the payload of delivery {past.ref} is not a JSON document") from None
        headers = {key.lower(): str(value) for key, value in (detail.request.headers or {}).items()}
        return delivery_of({**headers, DELIVERY: past.id, EVENT: detail.event}, body, 0)


# -- past deliveries ------------------------------------------------------------------------------------------------------


async def _listed(api: Api, hook: Hook, since: float, root: str) -> list[DeliveryAttempt]:
    """Return the attempts of a hook that ended after ``since``, newest first, as GitHub lists them (by a cursor)."""
    path = _deliveries_path(root, hook)
    attempts: list[DeliveryAttempt] = []
    bound = ListBound(path)
    async for rows, _ in names.typed_pages(api, path, list[HookDelivery], bound=bound):
        page = [_attempt(hook, row, path) for row in rows]
        bound.count(len(page))
        attempts += [attempt for attempt in page if attempt.at > since]
        if page and page[-1].at < since - LATE_S:
            break
    return attempts


def _attempt(hook: Hook, row: HookDelivery, path: str) -> DeliveryAttempt:
    at = epoch_of(row.delivered_at)
    if at is None:
        raise ProviderProtocolError(f"GET {path}: delivery {row.id} has no time", request=f"GET {path}")
    return DeliveryAttempt(hook, row, at)


def _folded(attempts: Sequence[DeliveryAttempt]) -> PastDelivery:
    """Return the event of ``attempts``, which have one GUID: it arrived if any of them did."""
    newest = max(attempts, key=lambda attempt: (attempt.at, attempt.row.id))
    hook = newest.hook
    return PastDelivery(
        id=newest.row.guid,
        ref=str(newest.row.id),
        type=newest.row.event,
        at=min(attempt.at for attempt in attempts),
        arrived=any(attempt.row.status_code in _ANSWERED for attempt in attempts),
        detail={"hook": hook.external_id, "scope_type": hook.scope_type, "scope_key": hook.scope_key, "source": hook.source.path},
    )


def _root(hook: Hook) -> str:
    return names.scope_path(Scope(hook.scope_type, hook.scope_key))


def _delivery_path(root: str, hook: Hook, past: PastDelivery) -> str:
    return f"{_deliveries_path(root, hook)}/{past.ref}"


def _deliveries_path(root: str, hook: Hook) -> str:
    """Return the path of the deliveries of a hook; an App has only one hook, without a number."""
    return f"{root}/hook/deliveries" if hook.scope_type == names.APP else f"{root}/hooks/{hook.external_id}/deliveries"


def _hook_of(past: PastDelivery) -> Hook:
    """Return the hook whose list contained ``past``, when the state no longer has it."""
    detail = past.detail
    if not detail.get("hook"):
        raise NotFound(f"the hook of delivery {past.ref} is not known")
    return Hook(
        ResourceId.from_path(str(detail["source"])), str(detail["scope_type"]), str(detail["scope_key"]), str(detail["hook"])
    )


# -- from bytes to a delivery ---------------------------------------------------------------------------------------------


def delivery_of(headers: Mapping[str, str], body: bytes, key: int) -> Delivery:
    """Return the delivery of a verified body; the names of ``headers`` are in lower case.

    Its ``body`` is the payload in one form (JSON without spaces, keys in their order, as GitHub writes it), so a delivery as JSON,
    the same one as a form, and the same one from the API are equal. ``identity`` is the digest of that form, without `INSTALLATION`, where the
    payload occurs only once (`is_unique`): replaying such a body under another id, or as another event, has no second effect.
    """
    kept = kept_headers(headers, _KEPT, MAX_ID)
    payload, document, problem = _read(body)
    shared = _shared(payload, document)
    digest = identity_of(shared)
    guid, event = headers.get(DELIVERY, ""), headers.get(EVENT, "")
    if not problem and not _NAME.fullmatch(event):
        problem = "no X-GitHub-Event names the event"
    event = event if _NAME.fullmatch(event) else UNKNOWN
    return Delivery(
        id=guid if 1 <= len(guid) <= MAX_ID and guid.isascii() and guid.isprintable() else digest,
        type=event,
        body=document,
        digest=digest.partition(":")[2],
        identity=digest if problem or is_unique(payload) else "",
        occurred_at=None if problem else occurred_at(event, payload),
        headers=kept,
        key=key,
        problem=problem,
    )


def _shared(payload: Payload, document: bytes) -> bytes:
    """Return ``document`` without what only the webhook of an App adds: a repository's webhook sends the same event without it."""
    if INSTALLATION not in payload:
        return document
    return orjson.dumps({key: value for key, value in payload.items() if key != INSTALLATION})


def occurred_at(event: str, payload: Payload) -> float | None:
    """Return the newest time of the event in its payload (epoch seconds); None where the payload has none."""
    paths = _TIMES.get(event) or _TIMES.get(f"{event}.{payload.get('action')}", ())
    times = [at for at in (epoch_of(find(payload, object, *path)) for path in paths) if at is not None]
    return max(times, default=None)


def _read(body: bytes) -> tuple[Payload, bytes, str]:
    """Return the payload, its one form, and the problem with it; without a payload the form is the raw body.

    The body is JSON, or a form with one field ``payload``. The body itself shows which: the content type is not signed.
    """
    text = unquote_to_bytes(body[len(_FORM) :].partition(b"&")[0].replace(b"+", b" ")) if body.startswith(_FORM) else body
    try:
        payload = matches(orjson.loads(text), dict[str, Any])
    except orjson.JSONDecodeError:
        return {}, body, "the payload is not JSON"
    if payload is None:
        return {}, body, "the payload is not an object"
    try:
        return payload, orjson.dumps(payload), ""
    except orjson.JSONEncodeError:
        return {}, body, "the payload is nested too deep"


# -- payloads that occur only once ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PayloadShape:
    """Payloads that have the object ``key``, none of ``without``, and one of ``actions`` (empty: any but ``unmoved``)."""

    key: str
    mark: str
    """Field of the object: an id, where the action happens once to one object; else a time that every such action moves."""
    actions: frozenset[str] = frozenset()
    unmoved: frozenset[str] = frozenset()
    """Actions that leave the time as it is."""
    without: frozenset[str] = frozenset()

    def covers(self, payload: Payload) -> bool:
        """Whether ``payload`` has this shape, and so the id or the time of one occurrence."""
        if find(payload, object, self.key, self.mark) is None or self.without & payload.keys():
            return False
        action = payload.get("action")
        return action in self.actions if self.actions else action not in self.unmoved


def _once(key: str, *actions: str, mark: str = "id", without: frozenset[str] = frozenset()) -> PayloadShape:
    return PayloadShape(key, mark, frozenset(actions), without=without)


def _moving(key: str, *unmoved: str, without: frozenset[str] = frozenset()) -> PayloadShape:
    return PayloadShape(key, "updated_at", unmoved=frozenset(unmoved), without=without)


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
    PayloadShape("merge_group", "head_sha"),
    _moving("pull_request", *_QUIET, without=_ABOUT_OTHERS),
    _moving("issue", *_QUIET, without=_ABOUT_OTHERS),
    _moving("discussion", *_QUIET, without=_ABOUT_OTHERS),
    *(_moving(key) for key in ("package", "registry_package", "alert", "repository_advisory", "security_advisory")),
    *(_moving(key) for key in ("project", "project_card", "project_column", "projects_v2_item", "projects_v2_status_update")),
    *(_moving(key) for key in ("repository_ruleset", "rule")),
)
_OF_EVERY_PAYLOAD = frozenset({"action", "repository", "organization", "sender", "enterprise", "installation"})
_STATUS = frozenset({"id", "sha", "state", "context"})


def is_unique(payload: Payload) -> bool:
    """Whether ``payload`` has an id or a time that no other occurrence has, so that an equal payload is the same event again.

    GitHub signs neither the id nor the event's name, so a captured body may come again under others; only the payload can show
    that. Without such a field (a user joins a team, leaves and joins again) two equal payloads are two events, and only GitHub's
    id identifies a repetition.
    """
    return any(shape.covers(payload) for shape in _SHAPES if shape.key in payload) or _is_unique_without_object(payload)


def _is_unique_without_object(payload: Payload) -> bool:
    if "after" in payload:  # a push; its repository has the time, since a branch may move to and fro between two commits
        return True
    if payload.keys() >= _STATUS or "build" in payload:
        return payload.get("id") is not None
    if payload.get("starred_at") is not None or "pages" in payload:  # a page's sha is of a commit, which has a time
        return True
    if "forkee" in payload:
        return True
    of_repository = payload.keys() <= _OF_EVERY_PAYLOAD and payload.get("action") in ("created", "deleted")
    return of_repository and find(payload, object, "repository", "id") is not None
