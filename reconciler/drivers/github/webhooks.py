"""Webhooks of repositories and of organizations: one implementation, two managed types.

**Conditional reads.** The validators keep the path and the ETag of each page of the list. A repository whose hooks did not
change costs exactly one request per page, answered 304, which GitHub does not count. GitHub's ETag depends on the credential, so
after a token rotation the first read of each scope is a full one; for an App, whose token lasts an hour, the tag is computed again
(`reconciler.drivers.github.app_tags`). A list whose last page is full is never read
conditionally: another hook would be on a page without a tag.

**A 404 proves little.** GitHub answers 404 to a credential that may not see an object. So a 404 is followed by a read of what
else is visible, before anything counts as gone.
"""

from __future__ import annotations

import dataclasses
from typing import NoReturn

import msgspec
from msgspec import UNSET, UnsetType

from reconciler.drivers.base import ApiResponse, Write
from reconciler.drivers.common import hook_marker, only_shown
from reconciler.drivers.connection import Api
from reconciler.drivers.github import api as names
from reconciler.drivers.github.app import AppAuthenticator
from reconciler.drivers.github.app_tags import keep_bodies
from reconciler.drivers.http.paging import ListBound, link_next, next_path, paginate
from reconciler.drivers.wire import decode, matches
from reconciler.model.errors import (
    Moved,
    NotFound,
    PermissionDenied,
    ProviderProtocolError,
    ReconcilerError,
    ScopeGone,
)
from reconciler.model.objects import Container, ManagedObject, NotModified, Observed, ObservedObject, Scope
from reconciler.model.values import ExternalId, JsonObject

MAX_PAGES = 50


class HookKind(msgspec.Struct, frozen=True):
    """What tells a webhook from one of GitHub's old services, whose other fields have forms of their own."""

    id: int
    name: str | None = "web"


class HookConfig(msgspec.Struct, frozen=True):
    """``config`` of a hook; GitHub masks the secret."""

    url: str | UnsetType | None = UNSET
    content_type: str | UnsetType | None = UNSET
    insecure_ssl: str | int | float | bool | UnsetType | None = UNSET
    secret: str | None = None


class LastResponse(msgspec.Struct, frozen=True):
    """The result of a hook's last delivery; without a code before the first one."""

    code: int | str | None = None
    status: str | None = None


class GitHubHook(msgspec.Struct, frozen=True):
    """A hook of a repository or an organization. A field that GitHub left out is unset, which is not the same as its default."""

    id: int
    config: HookConfig
    events: list[str] | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    updated_at: str | None = None
    last_response: LastResponse | None = None


class PageTag(msgspec.Struct, frozen=True):
    """The ETag of one page of a list."""

    path: str
    etag: str


class HookValidators(msgspec.Struct, frozen=True):
    """What a conditional read needs: a tag for every page."""

    pages: list[PageTag] = []


class HookType:
    """Implements `reconciler.drivers.base.ManagedType`."""

    write_only_fixed = False

    def __init__(self, type_: str) -> None:
        self.type = type_

    def normalize(self, attributes: JsonObject) -> JsonObject:
        """Return attributes in normal form: events sorted, GitHub's defaults filled in."""
        return names.normalized(attributes)

    def adoptable(self, desired: ManagedObject, observed: ObservedObject, *, identical: bool) -> bool:
        """``identical``: the same events and the same target host; otherwise the same host.

        The whole URL is no criterion: it is our marker, which a foreign hook never has.
        """
        expected, actual = desired.attributes, names.normalized(observed.attributes)
        same_host = names.host_of(actual["config"]["url"]) == names.host_of(str(expected["config"]["url"]))
        return same_host and (not identical or actual["events"] == list(expected["events"]))

    async def observe(self, api: Api, scope: Scope, validators: JsonObject | None) -> NotModified | Observed:
        """Return every hook of the repository or organization; a rename at GitHub is followed and reported."""
        path = names.scope_path(scope)
        try:
            return await _read(api, scope, f"{path}/hooks", validators)
        except Moved as moved:
            path = names.by_id(moved.target)
        except NotFound as error:
            await _raise_unreachable(api, scope, path, error)
        try:
            owner = names.container_of(await api.request("GET", path), path)
            observed = await _read(api, scope, f"{path}/hooks", None)
        except NotFound as error:
            await _raise_unreachable(api, scope, path, error)
        if isinstance(observed, NotModified):
            request = f"GET {path}/hooks"
            raise ProviderProtocolError(f"{request}: 'not modified' in answer to an unconditional read", request=request)
        return Observed(observed.scope, observed.objects, {}, redirected_to=owner.key)

    async def container(self, api: Api, scope: Scope, known: str = "") -> Container | None:
        """Return the repository or organization by its name, or by its id, which never changes its meaning."""
        path = f"/{known}" if known else names.scope_path(scope)
        try:
            answer = await names.follow_rename(path, lambda root: api.request("GET", root))
        except NotFound as error:
            if known:
                return None
            raise _scope_gone(scope, error) from None
        return names.container_of(answer, path)

    async def create(self, api: Api, write: Write) -> ObservedObject:
        """Create the hook with its secret: always JSON, and verified TLS unless the attributes differ."""
        scope = write.desired.scope
        try:
            answer = await _send(api, "POST", scope, "/hooks", {"name": "web", **_body(write)})
        except NotFound as error:
            await self.observe(api, scope, None)  # raises if the scope, or its hooks, are out of reach
            raise _read_only(scope, error) from None
        return _written(answer, write, api)

    async def update(self, api: Api, external_id: ExternalId, write: Write) -> ObservedObject:
        """Write the whole hook: GitHub replaces all of ``config``, so a secret that is left out would be removed."""
        scope = write.desired.scope
        path = _item(scope, external_id)
        try:
            answer = await _send(api, "PATCH", scope, path, _body(write))
        except NotFound as error:
            await self._require_gone(api, scope, external_id, error)
            raise
        return _written(answer, write, api)

    async def delete(self, api: Api, scope: Scope, external_id: ExternalId) -> None:
        """Delete the hook; a 404 counts as success only where the scope's hooks are visible and this one is not."""
        path = _item(scope, external_id)
        try:
            await _send(api, "DELETE", scope, path)
        except NotFound as error:
            await self._require_gone(api, scope, external_id, error)

    async def ping(self, api: Api, scope: Scope, external_id: ExternalId) -> None:
        """Implements `reconciler.drivers.base.Pingable` with ``POST …/hooks/{id}/pings``."""
        await _send(api, "POST", scope, f"{_item(scope, external_id)}/pings")

    async def _require_gone(self, api: Api, scope: Scope, external_id: ExternalId, error: NotFound) -> None:
        """Return if the hook is gone; raise `ScopeGone` or `PermissionDenied` if the 404 has another reason."""
        observed = await self.observe(api, scope, None)
        if isinstance(observed, Observed) and any(hook.external_id == external_id for hook in observed.objects):
            try:
                await _send(api, "GET", scope, _item(scope, external_id))  # the list may lag behind
            except NotFound:
                return
            raise _read_only(scope, error) from None


# -- read -----------------------------------------------------------------------------------------------------------------


async def _read(api: Api, scope: Scope, path: str, validators: JsonObject | None) -> NotModified | Observed:
    known = _known_pages(validators)
    params = {"per_page": names.PER_PAGE}
    first = await api.request("GET", path, params=params, headers=_condition(known[0]) if known else None)
    if first.status == 304:
        if await _all_unchanged(api, known[1:]):
            return NotModified(scope)
        first = await api.request("GET", path, params=params)
    bound = ListBound(path)
    bound.take(first)
    pages = [(path, first)]
    link = link_next(first)
    if link is not None:
        page_path = next_path(path, link)
        async for page in paginate(api, page_path, max_pages=MAX_PAGES, bound=bound):
            pages.append((page_path, page))
            link = link_next(page)
            page_path = next_path(path, link) if link is not None else page_path
    web_root = _web_root(api)
    hooks = [_hooks(page, scope, web_root) for _, page in pages]
    if isinstance(api.authenticator, AppAuthenticator):
        keep_bodies({page.headers.get("etag", ""): page.content for _, page in pages})
    objects = tuple(hook for page in hooks for hook in page if hook is not None)
    return Observed(scope, objects, _validators(pages, [len(page) for page in hooks]))


def _hooks(page: ApiResponse, scope: Scope, web_root: str) -> list[ObservedObject | None]:
    """Return the hooks of a page; None for one of GitHub's old services, which are not webhooks."""
    answer = page.json()
    kinds, rows = decode(answer, list[HookKind], "the list of webhooks"), decode(answer, list[object], "the list of webhooks")
    return [_observed(row, scope, web_root) if kind.name == "web" else None for kind, row in zip(kinds, rows, strict=True)]


def _observed(row: object, scope: Scope, web_root: str) -> ObservedObject:
    hook = decode(row, GitHubHook, "a webhook")
    external_id, url = str(hook.id), hook.config.url or ""
    shown: JsonObject = msgspec.to_builtins(hook)  # without unset fields
    return ObservedObject(
        external_id=ExternalId(external_id),
        attributes=only_shown(names.normalized(shown), shown),
        natural_key=url,
        marker=hook_marker(url),
        url=names.page_url(web_root, scope, external_id),
        updated_at=hook.updated_at or "",
        present_write_only=frozenset({names.SECRET}) if hook.config.secret else frozenset(),
        health=_health(hook.last_response),
    )


def _health(last: LastResponse | None) -> dict[str, str]:
    """Return the result of the last delivery; empty before the first one."""
    return {} if last is None or last.code is None else {"last_response": str(last.code), "status": last.status or ""}


async def _all_unchanged(api: Api, pages: list[PageTag]) -> bool:
    for page in pages:
        if (await api.request("GET", page.path, headers=_condition(page))).status != 304:
            return False
    return True


def _condition(page: PageTag) -> dict[str, str]:
    return {"if-none-match": page.etag}


def _known_pages(validators: JsonObject | None) -> list[PageTag]:
    """Return the tag of each page; empty unless all are known."""
    known = matches(validators, HookValidators)
    return known.pages if known is not None and all(page.path and page.etag for page in known.pages) else []


def _validators(pages: list[tuple[str, ApiResponse]], counts: list[int]) -> JsonObject:
    tags = [(path, page.headers.get("etag", "")) for path, page in pages]
    size = min(names.PER_PAGE, counts[0]) if len(pages) > 1 else names.PER_PAGE
    if not all(tag for _, tag in tags) or counts[-1] >= size:
        return {}
    return {"pages": [{"path": path, "etag": tag} for path, tag in tags]}


def _web_root(api: Api) -> str:
    scheme, _, rest = api.connection.url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


# -- what a 404 means -----------------------------------------------------------------------------------------------------


async def _raise_unreachable(api: Api, scope: Scope, path: str, error: NotFound) -> NoReturn:
    """Raise what the 404 of a scope's hooks means: the scope is out of reach, or only its hooks are."""
    try:
        await api.request("GET", path)
    except NotFound:
        raise _scope_gone(scope, error) from None
    raise _denied(scope, error, f"{scope.key} is visible, but its webhooks are not") from None


def _scope_gone(scope: Scope, error: NotFound) -> ScopeGone:
    return ScopeGone(
        f"{scope.key} does not exist, or the credential does not see it",
        status=404,
        request=error.request,
        hint="Check the name in the manifest and the rights of the credential. Nothing is deleted because of this.",
    )


def _read_only(scope: Scope, error: NotFound) -> PermissionDenied:
    return _denied(scope, error, f"the webhooks of {scope.key} may be read but not changed")


def _denied(scope: Scope, error: NotFound, message: str) -> PermissionDenied:
    permission = "`webhooks: write` (classic tokens: scope admin:repo_hook)"
    if scope.type == names.ORGANIZATION:
        permission = "`organization_hooks: write` (classic tokens: scope admin:org_hook)"
    return PermissionDenied(message, status=404, request=error.request, hint=f"Grant the credential {permission}.")


# -- write ----------------------------------------------------------------------------------------------------------------


async def _send(api: Api, method: str, scope: Scope, path: str, body: JsonObject | None = None) -> ApiResponse:
    """Send to ``path`` below the scope; the redirect of a renamed scope is followed once."""
    return await names.follow_rename(names.scope_path(scope), lambda root: api.request(method, f"{root}{path}", json=body))


def _item(scope: Scope, external_id: ExternalId) -> str:
    """Return the path of a hook below its scope."""
    if not external_id.isascii() or not external_id.isdigit():
        raise NotFound(f"'{external_id}' is not the id of a hook", request=f"hook of {scope.key}")
    return f"/hooks/{external_id}"


def _body(write: Write) -> JsonObject:
    """Return the whole hook as GitHub takes it. Raises if a mask would be written as the secret."""
    attributes = names.normalized(write.attributes)
    config = dict(attributes["config"])
    secret = write.secrets.get(names.SECRET)
    if secret is not None:
        config["secret"] = secret.reveal()
    if any(names.MASK.match(value) for value in config.values()):
        raise ReconcilerError("a mask must never be written as a value", code="RC9001")
    return {"active": attributes["active"], "events": attributes["events"], "config": config}


def _written(answer: ApiResponse, write: Write, api: Api) -> ObservedObject:
    hook = _observed(answer.json(), write.desired.scope, _web_root(api))
    # GitHub masks a secret that is set. A server in its place may omit it; without `unshown` it would be written at every pass.
    if names.SECRET in write.secrets and not hook.present_write_only:
        return dataclasses.replace(hook, unshown=(names.SECRET,))
    return hook
