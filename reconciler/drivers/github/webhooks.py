"""Webhooks on repositories and on organizations: one type of code, two managed types.

**Conditional reads.** The validators keep, for each page of the list, its path and its ETag. A repository whose hooks did
not change costs exactly one request per page, answered 304, which GitHub does not count. GitHub's ETag depends on the
credential: after a token was changed the first look at each scope is one ordinary read. That could be avoided by keeping
every body and computing the tag anew; for tokens that change a few times a year it is not worth the stored bodies.
A list whose last page is full is never read conditionally: a further hook would be on a page that no tag covers.

**404 proves little.** GitHub says 404 to whoever may not see a thing. So a 404 is followed by the question what else is
visible, before anything is called gone.

From an event source to hooks. Pure.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NoReturn

from reconciler.drivers.base import Api, ApiResponse, CompileContext, Write
from reconciler.drivers.common import only_shown
from reconciler.drivers.github import api as names
from reconciler.drivers.github.api import by_id, following
from reconciler.drivers.http.paging import ListBound, link_next, next_path, paginate
from reconciler.model.errors import (
    Moved,
    NotFound,
    PermissionDenied,
    ProviderProtocolError,
    ReconcilerError,
    ScopeGone,
    ValidationFailed,
)
from reconciler.model.objects import (
    Container,
    ManagedObject,
    Marker,
    NotModified,
    Observed,
    ObservedObject,
    Scope,
    WriteOnly,
    address_of,
)
from reconciler.model.resources import DerivedKeyRef, Resource, ResourceId
from reconciler.model.values import ExternalId, JsonObject

PER_PAGE = 100
MAX_PAGES = 50


class HookType:
    """Implements `reconciler.drivers.base.ManagedType`."""

    write_only_fixed = False

    def __init__(self, type_: str) -> None:
        self.type = type_

    def normalize(self, attributes: JsonObject) -> JsonObject:
        """Return attributes in the form that is compared: events sorted, GitHub's defaults filled in."""
        return names.normalized(attributes)

    def adoptable(self, desired: ManagedObject, observed: ObservedObject, *, identical: bool) -> bool:
        """Strictly: the same events and the same target host. ``adopt: always`` leaves the events out.

        The whole URL is no rule: it is our marker, which a hook of someone else never has.
        """
        wanted, there = desired.attributes, names.normalized(observed.attributes)
        same_host = names.host_of(there["config"]["url"]) == names.host_of(str(wanted["config"]["url"]))
        return same_host and (not identical or there["events"] == list(wanted["events"]))

    async def observe(self, api: Api, scope: Scope, validators: JsonObject | None) -> NotModified | Observed:
        """Return every hook of the repository or organization; a rename at GitHub is followed and reported."""
        path = f"{names.scope_path(scope)}/hooks"
        try:
            return await self._read(api, scope, path, validators)
        except Moved as moved:
            path = by_id(moved.target)
        except NotFound as error:
            await _unreachable(api, scope, names.scope_path(scope), error)
        try:
            found = _container((await api.request("GET", path)).json(), path)
            observed = await self._read(api, scope, f"{path}/hooks", None)
        except NotFound as error:
            await _unreachable(api, scope, path, error)
        if isinstance(observed, NotModified):
            raise ProviderProtocolError(f"GET {path}/hooks: 'not modified', and nothing was asked", request=f"GET {path}/hooks")
        return Observed(observed.scope, observed.objects, {}, redirected_to=found.key)

    async def container(self, api: Api, scope: Scope, known: str = "") -> Container | None:
        """Return the repository or organization by its name, or by its id: what an id names is the same for ever."""
        path = f"/{known}" if known else names.scope_path(scope)
        try:
            answer = await following(api, path, lambda root: api.request("GET", root))
        except NotFound as error:
            if known:
                return None
            raise ScopeGone(f"{scope.key} is not there, or the credential does not see it", request=error.request) from None
        return _container(answer.json(), path)

    async def _read(self, api: Api, scope: Scope, path: str, validators: JsonObject | None) -> NotModified | Observed:
        known = _known_pages(validators)
        first = await api.request("GET", path, params={"per_page": PER_PAGE}, headers=_condition(known[0][1]) if known else None)
        if first.status == 304:
            if await _all_unchanged(api, known[1:]):
                return NotModified(scope)
            first = await api.request("GET", path, params={"per_page": PER_PAGE})
        bound = ListBound(path)
        bound.take(first)
        pages = [(path, first)]
        following = link_next(first)
        if following is not None:
            following = next_path(path, following)
            async for page in paginate(api, following, max_pages=MAX_PAGES, bound=bound):
                pages.append((following, page))
                after = link_next(page)
                following = next_path(path, after) if after is not None else following
        web_root = _web_root(api)
        hooks = [[_observed(raw, scope, web_root) for raw in _rows(page)] for _, page in pages]
        objects = tuple(hook for page in hooks for hook in page if hook is not None)
        return Observed(scope, objects, _validators(pages, [len(page) for page in hooks]))

    async def create(self, api: Api, write: Write) -> ObservedObject:
        """Create the hook with its secret: always JSON, always verified TLS unless the attributes say otherwise."""
        scope = write.desired.scope
        path = f"{names.scope_path(scope)}/hooks"
        try:
            answer = await _send(api, "POST", path, {"name": "web", **_body(write)})
        except NotFound as error:
            await self.observe(api, scope, None)  # raises if the scope, or its hooks, are out of reach
            raise _read_only(scope, error) from None
        return _one(answer, write, api)

    async def update(self, api: Api, external_id: ExternalId, write: Write) -> ObservedObject:
        """Write the whole hook: GitHub replaces ``config`` as a whole, so that a secret left out would be removed."""
        scope = write.desired.scope
        path = _item(scope, external_id)
        try:
            answer = await _send(api, "PATCH", path, _body(write))
        except NotFound as error:
            await self._require_gone(api, scope, external_id, error)
            raise
        return _one(answer, write, api)

    async def delete(self, api: Api, scope: Scope, external_id: ExternalId) -> None:
        """Delete the hook; a 404 counts as success only where the scope's hooks are visible and this one is not."""
        path = _item(scope, external_id)
        try:
            await _send(api, "DELETE", path, None)
        except NotFound as error:
            await self._require_gone(api, scope, external_id, error)

    async def ping(self, api: Api, scope: Scope, external_id: ExternalId) -> None:
        """Ask GitHub for a test delivery of this hook (``POST …/hooks/{id}/pings``). Raises `NotFound` when it is gone."""
        await _send(api, "POST", f"{_item(scope, external_id)}/pings", None)

    async def _require_gone(self, api: Api, scope: Scope, external_id: ExternalId, error: NotFound) -> None:
        """Return if the hook is gone; raise `ScopeGone` or `PermissionDenied` if the 404 meant something else."""
        observed = await self.observe(api, scope, None)
        if isinstance(observed, Observed) and any(hook.external_id == external_id for hook in observed.objects):
            try:
                await _send(api, "GET", _item(scope, external_id), None)  # the list may lag behind
            except NotFound:
                return
            raise _read_only(scope, error) from None


def _container(body: Any, path: str) -> Container:
    name = body.get("full_name") or body.get("login") if isinstance(body, Mapping) else None
    number = body.get("id") if isinstance(body, Mapping) else None
    if not isinstance(name, str) or not isinstance(number, int) or isinstance(number, bool):
        raise ProviderProtocolError(f"GET {path}: no name or no id is shown", request=f"GET {path}")
    kind = "repositories" if "/" in name else "organizations"
    return Container(f"{kind}/{number}", name.lower(), "archived" if body.get("archived") is True else "")


async def _unreachable(api: Api, scope: Scope, path: str, error: NotFound) -> NoReturn:
    """Raise what the 404 of a scope's hooks means: the scope is out of reach, or only its hooks are."""
    try:
        await api.request("GET", path)
    except NotFound:
        raise ScopeGone(
            f"{scope.key} is not there, or the credential does not see it",
            status=404,
            request=error.request,
            hint="Check the name in the manifest, and what the credential may see. Nothing is deleted because of this.",
        ) from None
    raise PermissionDenied(
        f"{scope.key} is visible, but its webhooks are not",
        status=404,
        request=error.request,
        hint=f"Grant the credential {_wanted(scope)}.",
    ) from None


def _read_only(scope: Scope, error: NotFound) -> PermissionDenied:
    hint = f"Grant the credential {_wanted(scope)}."
    return PermissionDenied(
        f"the webhooks of {scope.key} may be read but not changed", status=404, request=error.request, hint=hint
    )


def _wanted(scope: Scope) -> str:
    if scope.type == names.ORGANIZATION:
        return "`organization_hooks: write` (classic tokens: scope admin:org_hook)"
    return "`webhooks: write` (classic tokens: scope admin:repo_hook)"


async def _send(api: Api, method: str, path: str, body: Any) -> ApiResponse:
    """Send; a redirect of a renamed scope is followed once, by its id: nothing was done before it."""
    try:
        return await api.request(method, path, json=body)
    except Moved as moved:
        root = _root_of(path)
        return await api.request(method, by_id(moved.target) + path[len(root) :], json=body)


def _root_of(path: str) -> str:
    """Return the part of an API path that names the repository or organization."""
    found = re.match(r"^/(?:repos/[^/]+/[^/]+|orgs/[^/]+)", path)
    return found.group(0) if found is not None else ""


async def _all_unchanged(api: Api, pages: list[tuple[str, str]]) -> bool:
    for path, tag in pages:
        if (await api.request("GET", path, headers=_condition(tag))).status != 304:
            return False
    return True


def _condition(tag: str) -> dict[str, str]:
    return {"if-none-match": tag}


def _known_pages(validators: JsonObject | None) -> list[tuple[str, str]]:
    """Return (path, ETag) of each page; empty unless all are there."""
    pages = validators.get("pages") if validators else None
    if not isinstance(pages, list | tuple):
        return []
    known = [(str(page.get("path", "")), str(page.get("etag", ""))) for page in pages if isinstance(page, Mapping)]
    return known if len(known) == len(pages) and all(path and tag for path, tag in known) else []


def _validators(pages: list[tuple[str, ApiResponse]], counts: list[int]) -> JsonObject:
    tags = [(path, page.headers.get("etag", "")) for path, page in pages]
    size = min(PER_PAGE, counts[0]) if len(pages) > 1 else PER_PAGE
    if not all(tag for _, tag in tags) or counts[-1] >= size:
        return {}
    return {"pages": [{"path": path, "etag": tag} for path, tag in tags]}


def _item(scope: Scope, external_id: ExternalId) -> str:
    if not external_id.isascii() or not external_id.isdigit():
        raise NotFound(f"'{external_id}' is no id of a hook", request=f"hook of {scope.key}")
    return f"{names.scope_path(scope)}/hooks/{external_id}"


def _body(write: Write) -> dict[str, Any]:
    """Return the whole hook as GitHub takes it. Raises if a mask would be written as the secret."""
    attributes = names.normalized(write.attributes)
    config = dict(attributes["config"])
    secret = write.secrets.get(names.SECRET)
    if secret is not None:
        config["secret"] = secret.reveal()
    if any(names.MASK.match(value) for value in config.values()):
        raise ReconcilerError("a mask must never be written as a value", code="RC9001")
    return {"active": attributes["active"], "events": attributes["events"], "config": config}


def _rows(page: ApiResponse) -> list[Any]:
    rows = page.json()
    if not isinstance(rows, list):
        raise ProviderProtocolError(
            "GitHub's list of hooks is no list", hint="Check `apiUrl`: a proxy or a login page may stand there."
        )
    return rows


def _one(answer: ApiResponse, write: Write, api: Api) -> ObservedObject:
    hook = _observed(answer.json(), write.desired.scope, _web_root(api))
    if hook is None:
        raise ProviderProtocolError("GitHub answered with a hook of another kind")
    # GitHub masks a secret that is set. A server in its place may say nothing of it: then it would be written for ever.
    if names.SECRET in write.secrets and not hook.present_write_only:
        return dataclasses.replace(hook, unshown=(names.SECRET,))
    return hook


def _observed(raw: Any, scope: Scope, web_root: str) -> ObservedObject | None:
    """Return a hook as shown, or None for one of the old services, which are no webhooks. Unknown fields are ignored."""
    if not isinstance(raw, Mapping) or not isinstance(raw.get("id"), int) or isinstance(raw["id"], bool):
        raise ProviderProtocolError("GitHub shows a hook without an id")
    if raw.get("name", "web") != "web":
        return None
    config = raw.get("config")
    known = isinstance(raw.get("events", []), list) and isinstance(raw.get("active", True), bool)
    if not isinstance(config, Mapping) or not known:
        raise ProviderProtocolError(f"GitHub shows hook {raw['id']} without its config, or with odd events or an odd state")
    attributes = only_shown(names.normalized(raw), raw)
    url = str(config.get("url") or "")
    return ObservedObject(
        external_id=ExternalId(str(raw["id"])),
        attributes=attributes,
        natural_key=url,
        marker=names.marker_of(url),
        url=names.page_url(web_root, scope, str(raw["id"])),
        updated_at=str(raw.get("updated_at") or ""),
        present_write_only=frozenset({names.SECRET}) if config.get("secret") else frozenset(),
        health=_health(raw.get("last_response")),
    )


def _health(last: Any) -> dict[str, str]:
    """Return what GitHub says of the last delivery; nothing before there was one."""
    code = last.get("code") if isinstance(last, Mapping) else None
    return {} if code is None else {"last_response": str(code), "status": str(last.get("status") or "")}


def _web_root(api: Api) -> str:
    scheme, _, rest = api.connection.url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


DEFAULT_EVENTS = ("create", "deployment", "pull_request", "push", "release", "workflow_run")
"""What an event source gets that names none: what a delivery pipeline starts from."""


def compile_source(resource: Resource, context: CompileContext) -> tuple[ManagedObject, ...]:
    """Return one hook per repository or organization that ``resource`` names, in the order of their names.

    Raises `ValidationFailed` for a name that is none.
    """
    return tuple(_hook(resource, context, scope) for scope in scopes_of(resource, context.connection.account, context.facts))


def scopes_of(resource: Resource, account: str, facts: JsonObject) -> tuple[Scope, ...]:
    """Return where ``resource`` wants hooks; names found by ``match`` come from ``facts``."""
    wanted = resource.spec.get("resource")
    if not isinstance(wanted, Mapping):
        raise ValidationFailed(f"{resource.id}: no repository or organization is named", hint="Set `spec.resource`.")
    kind = wanted.get("type")
    given = [wanted["name"]] if "name" in wanted else wanted.get("names", ())
    if kind == "organization":
        if "match" in wanted:
            raise ValidationFailed(f"{resource.id}: organizations are named, not matched", hint="Use `name` or `names`.")
        return tuple(Scope(names.ORGANIZATION, key) for key in sorted({names.organization_key(str(name)) for name in given}))
    if kind != "repository":
        raise ValidationFailed(
            f"{resource.id}: GitHub has no resource of type '{kind}'", hint="Set `resource.type` to repository or organization."
        )
    if "pattern" in facts:
        return (Scope(names.REPOSITORY, whole_pattern(str(facts["pattern"]), account)),)
    if "match" in wanted:
        given = facts.get("repositories", ())
    return tuple(Scope(names.REPOSITORY, key) for key in sorted({names.repository_key(str(name), account) for name in given}))


def _hook(resource: Resource, context: CompileContext, scope: Scope) -> ManagedObject:
    url = context.hook_url(resource.id)
    address = address_of(resource.id, scope)
    uid = resource.id.uid(context.owner)
    key = DerivedKeyRef(uid, int(resource.spec.get("keyRotation", 0)))
    events = {str(event["type"]) for event in resource.spec.get("events", ())} or set(DEFAULT_EVENTS)
    attributes = {
        "active": True,
        "events": ["*"] if "*" in events else sorted(events),
        "config": {"url": url, "content_type": "json", "insecure_ssl": "0"},
    }
    moved = resource.lifecycle.moved_from
    old = ResourceId(resource.id.kind, resource.id.canvas, moved) if moved is not None else None
    return ManagedObject(
        address=address,
        resource=resource.id,
        integration=context.connection.integration,
        scope=scope,
        attributes=names.normalized(attributes),
        natural_key=url,
        marker=Marker(context.owner, uid),
        write_only=(WriteOnly(names.SECRET, key, context.fingerprint(address, names.SECRET, key)),),
        lifecycle=resource.lifecycle,
        location=resource.location,
        previous=address_of(old, scope) if old is not None else None,
        previous_marker=Marker(context.owner, old.uid(context.owner)) if old is not None else None,
    )


def whole_pattern(pattern: str, account: str) -> str:
    """Return ``owner/glob`` in lower case; ``pattern`` may leave the owner out."""
    return (pattern if "/" in pattern else f"{account}/{pattern}").lower()


def matching(pattern: str, account: str, repositories: Iterable[str]) -> list[str]:
    """Return the repositories (``owner/repo``) that a pattern like ``svc-*`` or ``acme/svc-*`` covers, sorted, in lower case."""
    whole = whole_pattern(pattern, account)
    return sorted({name.lower() for name in repositories if fnmatchcase(name.lower(), whole)})
