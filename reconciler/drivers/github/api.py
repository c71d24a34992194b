"""The GitHub API as every part of this driver uses it: names and URLs, redirects of renamed repositories, times, lists."""

from __future__ import annotations

import datetime
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypedDict, TypeVar
from urllib.parse import urlsplit

import msgspec

from reconciler.drivers.base import ApiResponse
from reconciler.drivers.common import epoch_of_iso
from reconciler.drivers.connection import Api
from reconciler.drivers.http.paging import MAX_PAGES, ListBound, paginate
from reconciler.drivers.wire import decode
from reconciler.model.errors import Moved, ProviderProtocolError, ValidationFailed
from reconciler.model.objects import Container, Scope
from reconciler.model.values import JsonObject

T = TypeVar("T")
Moment = str | int | float | None
"""A time as GitHub writes it; see `epoch_of`."""
API_VERSION = "2022-11-28"
ACCEPT = "application/vnd.github+json"
REPOSITORY = "github/repository-webhook"
ORGANIZATION = "github/organization-webhook"
APP = "github/app-webhook"
SECRET = "/config/secret"
MASK = re.compile(r"\*+\Z")
PER_PAGE = 100
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}\Z")
_BY_ID = re.compile(r"(?:/(?!repos/|orgs/)[^/]+)*?(/(?:repositories|organizations)/[1-9]\d{0,18})(?=/|\Z)")
_YEAR_10000 = 253_402_300_800.0
"""No provider's clock shows a time this late."""


class GitHubUser(msgspec.Struct, frozen=True):
    login: str | None = None


class HookAttributes(TypedDict):
    """A hook in the form that is compared."""

    active: bool
    events: list[str]
    config: dict[str, str]


class ScopeOwner(msgspec.Struct, frozen=True):
    """A repository (``full_name``) or an organization (``login``)."""

    id: int
    full_name: str | None = None
    login: str | None = None
    archived: bool | None = None


# -- names and URLs -------------------------------------------------------------------------------------------------------


def repository_key(name: str, account: str) -> str:
    """Return ``owner/repo`` in lower case, since GitHub ignores the case of names; the owner in ``name`` is optional.

    Raises `ValidationFailed` for an invalid name: it would become part of a URL's path.
    """
    parts = name.split("/") if "/" in name else [account, name]
    if len(parts) != 2 or not all(_NAME.match(part) and part not in {".", ".."} for part in parts):
        raise ValidationFailed(f"'{name}' is not a repository name", hint="Write `repo`, or `owner/repo`.")
    return "/".join(parts).lower()


def organization_key(name: str) -> str:
    """Return the organization's name in lower case; raises `ValidationFailed` for an invalid name."""
    if not _NAME.match(name) or name in {".", ".."}:
        raise ValidationFailed(f"'{name}' is not an organization name", hint="Write the organization's name as in its URL.")
    return name.lower()


def scope_path(scope: Scope) -> str:
    """Return the path of a scope: ``/app`` for the App that the credential is of."""
    if scope.type == APP:
        return "/app"
    return f"/orgs/{scope.key}" if scope.type == ORGANIZATION else f"/repos/{scope.key}"


def page_url(web_root: str, scope: Scope, external_id: str) -> str:
    """Return the URL of the hook's page on the web site."""
    kind = "organizations/" if scope.type == ORGANIZATION else ""
    return f"{web_root}/{kind}{scope.key}/settings/hooks/{external_id}"


def host_of(url: str) -> str:
    """Return the host of a hook's URL in lower case, with its port if the URL names one; empty for an invalid URL."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
    except ValueError:
        return ""


def normalized(attributes: JsonObject) -> HookAttributes:
    """Return a hook's attributes in normal form, for comparison; a secret or its mask is never among them."""
    config, events = attributes.get("config"), attributes.get("events")
    config = config if isinstance(config, Mapping) else {}
    return {
        "active": attributes.get("active", True) is not False,
        "events": sorted({str(event) for event in events}) if isinstance(events, list | tuple) else [],
        "config": {
            "url": str(config.get("url") or ""),
            "content_type": str(config.get("content_type") or "form"),  # GitHub's default
            "insecure_ssl": "1" if str(config.get("insecure_ssl", "0")) == "1" else "0",  # "0", 0 and absent are equal
        },
    }


def container_of(answer: ApiResponse, path: str) -> Container:
    """Return the repository or organization of an answer; raises `ProviderProtocolError` for one without a name or an id."""
    owner = decoded(answer, ScopeOwner, path)
    name = owner.full_name or owner.login
    if name is None:
        raise ProviderProtocolError(f"GET {path}: the answer has no name", request=f"GET {path}")
    kind = "repositories" if "/" in name else "organizations"
    return Container(f"{kind}/{owner.id}", name.lower(), "archived" if owner.archived else "")


# -- renamed repositories and organizations -------------------------------------------------------------------------------


def renamed_to(target: str) -> str:
    """Return ``/repositories/ID`` of a redirect's target; empty for any other target.

    A server behind a proxy names its internal scheme, host, port or prefix; the id is requested from our own API root anyway.
    """
    try:
        match = _BY_ID.match(urlsplit(target).path)
    except ValueError:
        return ""
    return match.group(1) if match is not None else ""


def by_id(target: str) -> str:
    """Return ``/repositories/ID`` of a redirect; raises `ProviderProtocolError` for any other target."""
    path = renamed_to(target)
    if not path:
        raise ProviderProtocolError("GitHub redirects to a path that is no renamed repository")
    return path


async def follow_rename(root: str, work: Callable[[str], Awaitable[T]]) -> T:
    """Return the result of ``work`` below ``root`` (``/repos/acme/web``), or below the path that it was renamed to.

    A redirected request has had no effect, so ``work`` may start again; the redirect shows at its first request.
    """
    try:
        return await work(root)
    except Moved as moved:
        return await work(by_id(moved.target))


# -- typed reads -------------------------------------------------------------------------------------------------------


async def read(api: Api, path: str, kind: type[T]) -> T:
    """Return the answer of ``path`` as a ``kind``; raises `ProviderProtocolError` for another form."""
    return decoded(await api.request("GET", path), kind, path)


def decoded(answer: ApiResponse, kind: type[T], path: str, *within: str) -> T:
    """Return the answer of a GET of ``path`` as a ``kind``; raises `ProviderProtocolError` for another form."""
    return decode(answer.json(), kind, f"GET {path}", *within, request=f"GET {path}")


async def typed_pages(
    api: Api,
    path: str,
    kind: type[T],
    *,
    params: Mapping[str, str | int] | None = None,
    max_pages: int = MAX_PAGES,
    bound: ListBound | None = None,
) -> AsyncIterator[tuple[T, ApiResponse]]:
    """Yield every page of a list as a ``kind``, with its answer; raises `ProviderProtocolError` for another form."""
    async for page in paginate(api, path, params={**(params or {}), "per_page": PER_PAGE}, max_pages=max_pages, bound=bound):
        yield decoded(page, kind, path), page


# -- times ----------------------------------------------------------------------------------------------------------------


def epoch_of(value: object) -> float | None:
    """Return a time of GitHub's in seconds since the epoch; None if ``value`` is not a time.

    GitHub writes RFC 3339 with ``Z``, with an offset or with fractions, and seconds as a number (``repository.pushed_at`` of a
    push).
    """
    if isinstance(value, str):
        value = epoch_of_iso(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value < _YEAR_10000 else None


def stamp_of(at: float) -> str:
    """Return ``at`` (seconds since the epoch) as GitHub's search takes it, in whole seconds: ``2026-11-21T05:38:12Z``."""
    return datetime.datetime.fromtimestamp(int(at), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
