"""Whether a GitHub App gets the events that an event source asks for: its subscription, and the repositories of its installation.

GitHub has no API that subscribes an App to an event or adds a repository to an installation: people do that on GitHub's pages.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from reconciler.drivers.common import matching, once, read_each, target_of
from reconciler.drivers.connection import Api
from reconciler.drivers.github import api as names
from reconciler.drivers.github.app_records import GitHubApp
from reconciler.drivers.github.app_tags import read_unchanged
from reconciler.drivers.github.compile import full_pattern, pattern_of, subscribed
from reconciler.drivers.github.permissions import ALWAYS_SENT
from reconciler.drivers.http.paging import ListBound
from reconciler.drivers.wire import decode
from reconciler.model.errors import Moved, NotFound, ValidationFailed
from reconciler.model.resources import Resource
from reconciler.model.values import JsonObject

MAX_REPOSITORIES = 5_000
_LIST_BYTES = 128 << 20
"""Higher than for other lists: only names and ids are kept, and one page at a time."""
_REPOSITORIES = "/installation/repositories"
_MOST_PAGES = 500
_SHOWN = 5


class InstalledRepository(msgspec.Struct, frozen=True):
    id: int
    full_name: str


class InstalledPage(msgspec.Struct, frozen=True):
    """A page of ``GET /installation/repositories``."""

    repositories: tuple[InstalledRepository, ...]
    total_count: int


async def reach_of(api: Api, resource: Resource) -> JsonObject:
    """Return the ids of the repositories that ``resource`` names, by name: ``{"places": {"acme/web": "123"}}``.

    Raises `ValidationFailed` if the App is not subscribed to an event of ``resource``, or if its installation lacks a repository.
    """
    app = await once(api, "app", lambda: names.read(api, "/app", GitHubApp))
    _require_subscription(app, resource)
    account = api.connection.account
    pattern = pattern_of(resource)
    target = target_of(resource, "")
    if target.type != "repository":
        return {}
    listed = await once(api, "installation repositories", lambda: _listed(api))
    if pattern:
        if listed is not None and not matching(full_pattern(pattern, account), listed):
            raise ValidationFailed(
                f"{resource.id}: no repository of the App's installation on {account} matches '{pattern}'",
                code="RC4043",
                hint="Fix `resource.match`, or add the repositories to the installation.",
            )
        return {}
    wanted = [names.repository_key(name, account) for name in target.names]
    foreign = [name for name in wanted if name.partition("/")[0] != account.lower()]
    if foreign:
        raise ValidationFailed(
            f"{resource.id}: the installation of the GitHub App {app.slug} on {account} does not contain {', '.join(foreign[:_SHOWN])}",
            code="RC4043",
            hint="Declare an Integration with `spec.url` of that account, which may use the same App, and name it in a source of its own.",
        )
    places = {name: listed[name] for name in wanted if listed is not None and name in listed}
    missing = [name for name in wanted if name not in places]
    outside = []
    for name, number in zip(missing, await read_each(missing, lambda name: _look_up(api, name)), strict=True):
        if number is None:
            outside.append(name)
        elif number:
            places[name] = number
    if outside:
        raise ValidationFailed(
            f"{resource.id}: the installation of the GitHub App {app.slug} does not contain {', '.join(outside[:_SHOWN])}",
            code="RC4043",
            hint=f"Add the repository on the page of the installation ({app.html_url or 'Settings > GitHub Apps'}), or fix the name.",
        )
    return {"places": places}


def _require_subscription(app: GitHubApp, resource: Resource) -> None:
    """A source that names no event takes those of the defaults that the App is subscribed to."""
    has = {*app.events, *ALWAYS_SENT, "*"}
    named = bool(resource.spec.get("events"))
    missing = sorted(subscribed(resource) - has)
    if missing and (named or not subscribed(resource) & has):
        raise ValidationFailed(
            f"{resource.id}: the GitHub App {app.slug} is not subscribed to {', '.join(missing)}",
            code="RC4042",
            hint=f"Subscribe it on its settings page ({app.html_url or app.slug}, Permissions & events); GitHub has no API for that.",
        )


async def _listed(api: Api) -> Mapping[str, str] | None:
    """Return the ids of the installation's repositories by name, in lower case; None if there are more than `MAX_REPOSITORIES`."""
    found: dict[str, str] = {}
    bound, listed = ListBound(_REPOSITORIES, max_bytes=_LIST_BYTES), 0
    for number in range(1, _MOST_PAGES + 1):
        content = await read_unchanged(api, f"{_REPOSITORIES}?per_page={names.PER_PAGE}&page={number}", bound)
        page = decode(content, InstalledPage, f"GET {_REPOSITORIES}")
        found |= {row.full_name.lower(): str(row.id) for row in page.repositories}
        listed += len(page.repositories)
        if len(found) > MAX_REPOSITORIES:
            return None
        if not page.repositories or listed >= page.total_count:
            return found
    return None


async def _look_up(api: Api, name: str) -> str | None:
    """Return the id of a repository that was renamed, "" for one that the installation contains, None for any other."""
    try:
        await api.request("GET", f"/repos/{name}/installation")
    except Moved as moved:
        return names.by_id(moved.target).rpartition("/")[2]
    except NotFound:
        return None
    return ""


__all__ = ["reach_of"]
