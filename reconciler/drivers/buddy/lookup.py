"""Names of pipelines, users and groups → their ids. A name that is unknown, or that two have, is an error that says so.

``{name: …}`` is always a name and ``{id: …}`` always an id. Bare, a number is an id and a text is a name, also one of digits.
A user is identified by the e-mail address alone: anyone may choose any display name.
"""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from reconciler.drivers.base import Api
from reconciler.drivers.buddy.api import GONE, Item, paged_list, workspace_path
from reconciler.drivers.common import once
from reconciler.model.errors import NotFound, ScopeGone, ValidationFailed
from reconciler.model.resources import Resource, ResourceId
from reconciler.model.values import JsonObject

MAX_PROJECTS = 500
"""Projects that are looked through for a pipeline without a project."""
_PIPELINE_KEYS = ("name", "identifier")
Lister = Callable[[str], Awaitable[list[Item]]]


@dataclass(frozen=True, slots=True, order=True)
class PipelineName:
    """How a manifest names a pipeline: bare, ``build/test`` may be a name as a whole, or a pipeline of a project."""

    project: str
    """The project that is named beside it, or that the integration lies in; empty where there is none."""
    text: str
    bare: bool

    @property
    def key(self) -> str:
        """What its id is found by among the facts."""
        return f"{'text' if self.bare else 'name'}:{self.project}/{self.text}"

    def places(self) -> list[tuple[str, str]]:
        """Return the (project, name) that it may mean, the first to look for first; an empty project is any."""
        project, slash, name = self.text.partition("/")
        whole, parts = (self.project, self.text), (project, name)
        if not self.bare or not slash or not project or not name:
            return [whole]
        return [whole, parts] if self.project else [parts, whole]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a manifest refers to without an id."""

    pipelines: tuple[PipelineName, ...] = ()
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


def id_of(entry: Any) -> int | None:
    """Return the id that ``entry`` (``7``, ``{id: 7}``) gives, or None for a name."""
    value = entry.get("id") if isinstance(entry, Mapping) else entry
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(entry, Mapping) and isinstance(value, str) and value.isdecimal() else None


def name_of(entry: Any) -> str:
    """Return the name that ``entry`` (``deploy``, ``{name: deploy}``, ``{email: …}``) gives."""
    if isinstance(entry, Mapping):
        return str(next((entry[key] for key in ("name", "email", "id") if entry.get(key) is not None), ""))
    return str(entry)


def pipeline_of(entry: Any, default_project: str) -> PipelineName:
    """Return how ``entry`` (``deploy``, ``web/deploy`` or ``{name, project}``) names a pipeline."""
    if isinstance(entry, Mapping):
        return PipelineName(str(entry.get("project") or default_project), name_of(entry), bare=False)
    return PipelineName(default_project, str(entry), bare=True)


def wanted_by(resource: Resource) -> Wanted:
    """Return what ``resource`` names without an id."""
    spec = resource.spec
    project = str(spec.get("project_name") or "")
    permissions = spec.get("permissions") or {}
    return Wanted(
        tuple(sorted({pipeline_of(one, project) for one in spec.get("allowed_pipelines") or () if id_of(one) is None})),
        _names(permissions.get("users") or ()),
        _names(permissions.get("groups") or ()),
    )


async def resolve(api: Api, workspace: str, wanted: Wanted) -> dict[str, dict[str, int]]:
    """Return ids by name: ``{"users": {"ada@acme.io": 7}, "groups": …, "pipelines": {"text:/web/deploy": 12}}``."""
    place = f"workspace {workspace}"
    facts: dict[str, dict[str, int]] = {"pipelines": {}, "users": {}, "groups": {}}
    if wanted.users:
        members = await _rows_of(api, workspace, "members")
        facts["users"] = {name: _member(members, name, place) for name in wanted.users}
    if wanted.groups:
        groups = await _rows_of(api, workspace, "groups")
        facts["groups"] = {name: _one(groups, ("name",), name, "group", place) for name in wanted.groups}
    if wanted.pipelines:
        pipelines = _Pipelines(api, workspace)
        facts["pipelines"] = {one.key: await pipelines.id_of(one) for one in wanted.pipelines}
    return facts


async def pipeline_id(api: Api, workspace: str, project: str, named: str) -> int:
    """Return the id of a pipeline given by name or identifier; raises `ValidationFailed` for none and for several."""
    rows = await pipelines_of(api, workspace, project)
    try:
        return _one(rows, _PIPELINE_KEYS, named, "pipeline", f"project {project}")
    except ValidationFailed as error:
        if named.isdecimal() and any(str(row["id"]) == named for row in rows):
            error.hint = f"A text is a name. For the pipeline with this id write `id: {named}` in place of `name`."
        raise


async def project_names(api: Api, workspace: str) -> list[str]:
    """Return the name ids of all projects of the workspace that the token sees, sorted. Raises `ScopeGone` without the workspace."""

    async def read() -> list[str]:
        try:
            rows = await paged_list(api, workspace_path(workspace, "projects"), "projects", "name")
        except NotFound as error:
            raise ScopeGone(error.message, status=404, request=error.request, hint=GONE) from None
        return sorted(str(row["name"]) for row in rows)

    return await once(api, f"projects/{workspace}", read)


async def require_projects(api: Api, workspace: str, projects: Iterable[str], what: ResourceId) -> None:
    """Raise `ScopeGone` unless every one of ``projects`` is there and to be seen."""
    wanted = sorted({*projects})
    known = await project_names(api, workspace) if wanted else []
    for name in wanted:
        if name not in known:
            meant = difflib.get_close_matches(name, known, n=1)
            raise ScopeGone(
                f"{what}: there is no project '{name}' in workspace {workspace}, or the token does not see it",
                hint=(f"Did you mean '{meant[0]}'? " if meant else "")
                + "A project is named as in its URL; a renamed project has another name.",
            )


async def workspaces(api: Api) -> list[str]:
    """Return the domains of all workspaces that the token sees, sorted."""
    return sorted(str(item["domain"]) for item in await paged_list(api, "/workspaces", "workspaces", "domain"))


async def pipelines_of(api: Api, workspace: str, project: str) -> list[Item]:
    """Return all pipelines of a project."""
    return await paged_list(api, workspace_path(workspace, "projects", project, "pipelines"), "pipelines", "id")


@dataclass(slots=True)
class _Pipelines:
    """Finds pipelines of one workspace; each project is read once."""

    api: Api
    workspace: str
    read: dict[str, list[Item] | None] = field(default_factory=dict)
    """Pipelines by project; None for a project that answers 404."""
    all_projects: list[str] | None = None

    async def id_of(self, named: PipelineName) -> int:
        """Return the id; raises `ValidationFailed` for no pipeline, for several, and for a declared project that is not there."""
        places = named.places()
        for number, (project, name) in enumerate(places, 1):
            rows = await self._rows(project, name)
            known = rows is not None and any(row.get(key) == name for row in rows for key in _PIPELINE_KEYS)
            if not known and number < len(places):
                continue
            if rows is None:
                raise ValidationFailed(
                    f"there is no project '{project}' in workspace {self.workspace}, or the token does not see it",
                    hint="Check the spelling; a renamed project has another name.",
                )
            place = f"project {project}" if project else f"workspace {self.workspace}"
            return _one(rows, _PIPELINE_KEYS, name, "pipeline", place)
        raise ValidationFailed(f"there is no pipeline '{named.text}' in workspace {self.workspace}")

    async def _rows(self, project: str, name: str) -> list[Item] | None:
        if project:
            return await self._of(project)
        if self.all_projects is None:
            self.all_projects = await project_names(self.api, self.workspace)
        if len(self.all_projects) > MAX_PROJECTS:
            raise ValidationFailed(
                f"workspace {self.workspace} has {len(self.all_projects)} projects, and a pipeline without a project is looked for "
                f"in {MAX_PROJECTS} at most",
                hint=f"Name the project: {{project: PROJECT, name: {name}}}.",
            )
        # A project that is listed and answers 404 was deleted meanwhile, or is not to be seen: nothing declares it.
        return [row for one in self.all_projects for row in await self._of(one) or ()]

    async def _of(self, project: str) -> list[Item] | None:
        if project not in self.read:
            try:
                self.read[project] = await pipelines_of(self.api, self.workspace, project)
            except NotFound:
                self.read[project] = None
        return self.read[project]


async def _rows_of(api: Api, workspace: str, what: str) -> list[Item]:
    return await once(api, f"{what}/{workspace}", lambda: paged_list(api, workspace_path(workspace, what), what, "id"))


def _member(members: Sequence[Item], named: str, place: str) -> int:
    """Return the id of the one member with this e-mail address, in any case."""
    if "@" not in named:
        raise ValidationFailed(
            f"the user '{named}' in {place} is given by a display name, which anyone can choose",
            hint="Give the e-mail address (`email`) or the id (`id`) of the user.",
        )
    ids = sorted({int(row["id"]) for row in members if str(row.get("email") or "").casefold() == named.casefold()})
    if len(ids) == 1:
        return ids[0]
    if ids:
        raise ValidationFailed(
            f"{len(ids)} members in {place} have the e-mail address '{named}' (ids {', '.join(map(str, ids[:5]))})",
            hint="Give the id.",
        )
    shown = any(row.get("email") for row in members)
    raise ValidationFailed(
        f"there is no member with the e-mail address '{named}' in {place}",
        hint="Check the spelling, or give the id."
        if shown
        else "The token sees no e-mail addresses: grant it MEMBER_EMAIL, or give the id.",
    )


def _one(rows: Iterable[Item], keys: Sequence[str], name: str, what: str, place: str) -> int:
    """The first key that finds anything decides."""
    rows = list(rows)
    for key in keys:
        found = [row for row in rows if row.get(key) == name]
        found = [row for row in found if row.get("disabled") is not True] or found  # of pipelines the one that runs is meant
        ids = sorted({int(row["id"]) for row in found})
        if len(ids) == 1:
            return ids[0]
        if ids:
            raise ValidationFailed(
                f"{len(ids)} {what}s in {place} are called '{name}' (ids {', '.join(map(str, ids[:5]))})",
                hint="Give the id" + (", or the project as PROJECT/NAME." if what == "pipeline" else "."),
            )
    raise ValidationFailed(
        f"there is no {what} '{name}' in {place}", hint="Check the spelling, and that the token sees it; or give the id."
    )


def _names(entries: Iterable[Any]) -> tuple[str, ...]:
    return tuple(sorted({name_of(one) for one in entries if id_of(one) is None}))


async def matched(api: Api, resource: Resource) -> JsonObject:
    """Return ``{"projects": […]}`` or ``{"workspaces": […]}``, empty without a pattern; raises `ValidationFailed` if none matches."""
    target = resource.spec.get("resource") or {}
    pattern = str(target.get("match") or "")
    if not pattern:
        return {}
    if target.get("type") == "workspace":
        what, known = "workspaces", await workspaces(api)
    else:
        what, known = "projects", await project_names(api, required_workspace(resource, "", api.connection.account))
    found = [name for name in known if fnmatchcase(name, pattern)]
    if not found:
        raise ValidationFailed(
            f"{resource.id}: none of the {what} that the token sees matches '{pattern}'",
            hint="Mend `resource.match`; nothing is made, since a webhook without projects gets all events.",
        )
    return {what: found}


def required_workspace(resource: Resource, named: str, account: str) -> str:
    """Return ``named``, else the workspace in the integration's URL; raises `ValidationFailed` without any."""
    if not (named or account):
        raise ValidationFailed(
            f"{resource.id}: no workspace is named",
            hint="Name it, or set `spec.url` of the integration to https://app.buddy.works/WORKSPACE.",
        )
    return named or account
