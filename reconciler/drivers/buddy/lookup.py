"""Look up the ids of pipelines, users and groups by name, and the targets that ``resource.match`` matches.

An unknown or ambiguous name is an error.

``{name: …}`` is always a name and ``{id: …}`` always an id. A bare number is an id; a bare text is a name, even if it has only digits.
A user is identified only by e-mail address: anyone may choose any display name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.drivers.buddy.api import (
    GONE,
    BuddyMember,
    BuddyPipeline,
    groups_of,
    members_of,
    pipelines_of,
    projects_of,
    workspaces_of,
)
from reconciler.drivers.common import did_you_mean, matching, once, target_of
from reconciler.drivers.connection import Api
from reconciler.model.errors import NotFound, ScopeGone, ValidationFailed
from reconciler.model.resources import Resource, ResourceId
from reconciler.model.values import JsonObject

MAX_PROJECTS = 500
"""Projects that are searched for a pipeline without a project."""
_SHOWN = 5


@dataclass(frozen=True, slots=True, order=True)
class PipelineName:
    """How a manifest names a pipeline: bare, ``build/test`` may be a name as a whole, or a pipeline of a project."""

    project: str
    """The project that is named with it, or that the integration belongs to; empty if there is none."""
    text: str
    bare: bool

    @property
    def key(self) -> str:
        """The key of its id in the facts."""
        return f"{'text' if self.bare else 'name'}:{self.project}/{self.text}"

    def places(self) -> list[tuple[str, str]]:
        """Return the (project, name) pairs that it may mean, most likely first; an empty project is any project."""
        project, slash, name = self.text.partition("/")
        whole, parts = (self.project, self.text), (project, name)
        if not self.bare or not slash or not project or not name:
            return [whole]
        return [whole, parts] if self.project else [parts, whole]


@dataclass(frozen=True, slots=True)
class References:
    """The names in a manifest that need an id."""

    pipelines: tuple[PipelineName, ...] = ()
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


def id_of(entry: object) -> int | None:
    """Return the id in ``entry`` (``7``, ``{id: 7}``), or None for a name."""
    match entry:
        case bool() | {"id": bool()}:
            return None
        case int():
            return entry
        case {"id": int(number)}:
            return number
        case {"id": str(text)} if text.isdecimal():
            return int(text)
        case _:
            return None


def name_of(entry: object) -> str:
    """Return the name in ``entry`` (``deploy``, ``{name: deploy}``, ``{email: …}``)."""
    if isinstance(entry, Mapping):
        return str(next((entry[key] for key in ("name", "email", "id") if entry.get(key) is not None), ""))
    return str(entry)


def pipeline_of(entry: object, default_project: str) -> PipelineName:
    """Return the pipeline name in ``entry`` (``deploy``, ``web/deploy`` or ``{name, project}``)."""
    if isinstance(entry, Mapping):
        return PipelineName(str(entry.get("project") or default_project), name_of(entry), bare=False)
    return PipelineName(default_project, str(entry), bare=True)


def references_of(resource: Resource) -> References:
    """Return the names in ``resource`` that need an id."""
    spec = resource.spec
    project = str(spec.get("project_name") or "")
    permissions = spec.get("permissions") or {}
    return References(
        tuple(sorted({pipeline_of(entry, project) for entry in spec.get("allowed_pipelines") or () if id_of(entry) is None})),
        _names(permissions.get("users") or ()),
        _names(permissions.get("groups") or ()),
    )


async def resolve(api: Api, workspace: str, references: References) -> dict[str, dict[str, int]]:
    """Return ids by name: ``{"users": {"ada@acme.io": 7}, "groups": …, "pipelines": {"text:/web/deploy": 12}}``."""
    place = f"workspace {workspace}"
    facts: dict[str, dict[str, int]] = {"pipelines": {}, "users": {}, "groups": {}}
    if references.users:
        members = await once(api, f"members/{workspace}", lambda: members_of(api, workspace))
        facts["users"] = {name: _member_id(members, name, place) for name in references.users}
    if references.groups:
        groups = await once(api, f"groups/{workspace}", lambda: groups_of(api, workspace))
        facts["groups"] = {
            name: _require_one([group.id for group in groups if group.name == name], name, "group", place)
            for name in references.groups
        }
    if references.pipelines:
        pipelines = _PipelineFinder(api, workspace)
        facts["pipelines"] = {name.key: await pipelines.id_of(name) for name in references.pipelines}
    return facts


async def pipeline_id(api: Api, workspace: str, project: str, name: str) -> int:
    """Return the id of a pipeline by name or identifier; raises `ValidationFailed` if none or several match."""
    pipelines = await pipelines_of(api, workspace, project)
    try:
        return _require_one(_pipeline_ids(pipelines, name), name, "pipeline", f"project {project}")
    except ValidationFailed as error:
        if any(str(pipeline.id) == name for pipeline in pipelines):
            error.hint = f"A text is a name. For the pipeline with this id write `id: {name}` in place of `name`."
        raise


async def project_names(api: Api, workspace: str) -> list[str]:
    """Return the names of all projects of the workspace that the token sees, sorted. Raises `ScopeGone` without the workspace."""

    async def read() -> list[str]:
        try:
            return sorted(project.name for project in await projects_of(api, workspace))
        except NotFound as error:
            raise ScopeGone(error.message, status=404, request=error.request, hint=GONE) from None

    return await once(api, f"projects/{workspace}", read)


async def require_projects(api: Api, workspace: str, projects: Iterable[str], what: ResourceId) -> None:
    """Raise `ScopeGone` unless the token sees every one of ``projects``."""
    expected = sorted({*projects})
    known = await project_names(api, workspace) if expected else []
    missing = next((name for name in expected if name not in known), None)
    if missing is not None:
        raise ScopeGone(
            f"{what}: there is no project '{missing}' in workspace {workspace}, or the token cannot see it",
            hint=did_you_mean(missing, known) + "A project is named as in its URL; a renamed project has another name.",
        )


@dataclass(slots=True)
class _PipelineFinder:
    """Finds pipelines of one workspace; each project is read once."""

    api: Api
    workspace: str
    read: dict[str, list[BuddyPipeline] | None] = field(default_factory=dict)
    """Pipelines by project; None for a project that answers 404."""
    all_projects: list[str] | None = None

    async def id_of(self, reference: PipelineName) -> int:
        """Return the id; raises `ValidationFailed` if no pipeline or several match, and for a named project that does not exist."""
        places = reference.places()
        for number, (project, name) in enumerate(places, 1):
            pipelines = await self._search(project, name)
            ids = _pipeline_ids(pipelines or (), name)
            if not ids and number < len(places):
                continue
            if pipelines is None:
                raise ValidationFailed(
                    f"there is no project '{project}' in workspace {self.workspace}, or the token cannot see it",
                    hint="Check the spelling; a renamed project has another name.",
                )
            return _require_one(ids, name, "pipeline", f"project {project}" if project else f"workspace {self.workspace}")
        raise ValidationFailed(f"there is no pipeline '{reference.text}' in workspace {self.workspace}")

    async def _search(self, project: str, name: str) -> list[BuddyPipeline] | None:
        if project:
            return await self._of(project)
        if self.all_projects is None:
            self.all_projects = await project_names(self.api, self.workspace)
        projects = self.all_projects
        if len(projects) > MAX_PROJECTS:
            raise ValidationFailed(
                f"workspace {self.workspace} has {len(projects)} projects; a pipeline without a project is searched for in "
                f"{MAX_PROJECTS} at most",
                hint=f"Name the project: {{project: PROJECT, name: {name}}}.",
            )
        # A listed project that answers 404 was deleted meanwhile, or is hidden: nothing declares it.
        return [pipeline for project in projects for pipeline in await self._of(project) or ()]

    async def _of(self, project: str) -> list[BuddyPipeline] | None:
        if project not in self.read:
            try:
                self.read[project] = await pipelines_of(self.api, self.workspace, project)
            except NotFound:
                self.read[project] = None
        return self.read[project]


def _pipeline_ids(pipelines: Iterable[BuddyPipeline], name: str) -> list[int]:
    """Return the ids of the pipelines with this name, else with this identifier; enabled pipelines come before disabled ones."""
    matches = [pipeline for pipeline in pipelines if name in (pipeline.name, pipeline.identifier)]
    matches = [pipeline for pipeline in matches if pipeline.name == name] or matches
    return [pipeline.id for pipeline in matches if not pipeline.disabled] or [pipeline.id for pipeline in matches]


def _require_one(ids: Iterable[int], name: str, what: str, place: str) -> int:
    unique = sorted(set(ids))
    if len(unique) == 1:
        return unique[0]
    if unique:
        raise ValidationFailed(
            f"{len(unique)} {what}s in {place} are called '{name}' (ids {', '.join(map(str, unique[:_SHOWN]))})",
            hint="Give the id" + (", or the project as PROJECT/NAME." if what == "pipeline" else "."),
        )
    raise ValidationFailed(
        f"there is no {what} '{name}' in {place}", hint="Check the spelling, and that the token sees it; or give the id."
    )


def _member_id(members: Sequence[BuddyMember], email: str, place: str) -> int:
    """Return the id of the one member with this e-mail address, ignoring case."""
    if "@" not in email:
        raise ValidationFailed(
            f"the user '{email}' in {place} is given by a display name, which anyone can choose",
            hint="Give the e-mail address (`email`) or the id (`id`) of the user.",
        )
    ids = sorted({member.id for member in members if (member.email or "").casefold() == email.casefold()})
    if len(ids) == 1:
        return ids[0]
    if ids:
        raise ValidationFailed(
            f"{len(ids)} members in {place} have the e-mail address '{email}' (ids {', '.join(map(str, ids[:_SHOWN]))})",
            hint="Give the id.",
        )
    raise ValidationFailed(
        f"there is no member with the e-mail address '{email}' in {place}",
        hint="Check the spelling, or give the id."
        if any(member.email for member in members)
        else "The token sees no e-mail addresses: grant it MEMBER_EMAIL, or give the id.",
    )


def _names(entries: Iterable[object]) -> tuple[str, ...]:
    return tuple(sorted({name_of(entry) for entry in entries if id_of(entry) is None}))


# targets


async def matched(api: Api, resource: Resource) -> JsonObject:
    """Return ``{"projects": […]}`` or ``{"workspaces": […]}`` for ``resource.match``; empty without a pattern.

    Raises `ValidationFailed` if nothing matches.
    """
    target = target_of(resource, "workspace")
    if not target.match:
        return {}
    if target.type == "workspace":
        what, known = "workspaces", [workspace.domain for workspace in await workspaces_of(api)]
    else:
        what, known = "projects", await project_names(api, required_workspace(resource, "", api.connection.account))
    names = matching(target.match, known)
    if not names:
        raise ValidationFailed(
            f"{resource.id}: none of the {what} that the token sees matches '{target.match}'",
            hint="Fix `resource.match`; nothing is created, since a webhook without projects receives all events.",
        )
    return {what: names}


def required_workspace(resource: Resource, named: str, account: str) -> str:
    """Return ``named``, else the workspace in the integration's URL; raises `ValidationFailed` without either."""
    if not (named or account):
        raise ValidationFailed(
            f"{resource.id}: no workspace is named",
            hint="Name it, or set `spec.url` of the integration to https://app.buddy.works/WORKSPACE.",
        )
    return named or account
