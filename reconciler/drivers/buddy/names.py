"""Names of pipelines, users and groups → their ids. A name that is unknown, or that two have, is an error that says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.drivers.base import Api
from reconciler.drivers.buddy.lists import Item, paged_list, workspace_path
from reconciler.model.errors import ValidationFailed
from reconciler.model.resources import Resource

MAX_PROJECTS = 500
"""Projects that are looked through for a pipeline without a project."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a manifest refers to by name: pipelines as (project or "", name)."""

    pipelines: tuple[tuple[str, str], ...] = ()
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


def id_of(entry: Any) -> int | None:
    """Return the numeric id that ``entry`` (``7``, ``"7"``, ``{id: 7}``) gives, or None for a name."""
    value = entry.get("id", entry.get("name")) if isinstance(entry, Mapping) else entry
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, str) and value.isdecimal() else None


def name_of(entry: Any) -> str:
    """Return the name that ``entry`` (``deploy``, ``{name: deploy}``, ``{email: …}``) gives."""
    if isinstance(entry, Mapping):
        return str(next((entry[key] for key in ("name", "email", "id") if entry.get(key) is not None), ""))
    return str(entry)


def pipeline_of(entry: Any, default_project: str) -> tuple[str, str]:
    """Return (project or "", name) of ``deploy``, ``web/deploy`` or ``{name, project}``."""
    if isinstance(entry, Mapping):
        return str(entry.get("project") or default_project), name_of(entry)
    project, slash, name = str(entry).partition("/")
    return (project, name) if slash else (default_project, str(entry))


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
    """Return ids by name: ``{"users": {"ada@acme.io": 7}, "groups": …, "pipelines": {"web/deploy": 12}}``."""
    place = f"workspace {workspace}"
    facts: dict[str, dict[str, int]] = {"pipelines": {}, "users": {}, "groups": {}}
    if wanted.users:
        members = await paged_list(api, workspace_path(workspace, "members"), "members", "id")
        facts["users"] = {name: _one(members, ("email", "name"), name, "member", place) for name in wanted.users}
    if wanted.groups:
        groups = await paged_list(api, workspace_path(workspace, "groups"), "groups", "id")
        facts["groups"] = {name: _one(groups, ("name",), name, "group", place) for name in wanted.groups}
    if wanted.pipelines:
        facts["pipelines"] = await _pipelines(api, workspace, wanted.pipelines)
    return facts


async def pipeline_id(api: Api, workspace: str, project: str, named: str) -> int:
    """Return the number of a pipeline given by number, name or identifier; raises `ValidationFailed` for none and for several."""
    number = id_of(named)
    if number is not None:
        return number
    return _one(await pipelines_of(api, workspace, project), ("name", "identifier"), named, "pipeline", f"project {project}")


async def project_names(api: Api, workspace: str) -> list[str]:
    """Return the name ids of all projects of the workspace that the token sees, sorted."""
    return sorted(str(item["name"]) for item in await paged_list(api, workspace_path(workspace, "projects"), "projects", "name"))


async def workspaces(api: Api) -> list[str]:
    """Return the domains of all workspaces that the token sees, sorted."""
    return sorted(str(item["domain"]) for item in await paged_list(api, "/workspaces", "workspaces", "domain"))


async def _pipelines(api: Api, workspace: str, wanted: Sequence[tuple[str, str]]) -> dict[str, int]:
    projects = {project for project, _ in wanted if project}
    if any(not project for project, _ in wanted):
        projects.update((await project_names(api, workspace))[:MAX_PROJECTS])
    by_project = {name: await pipelines_of(api, workspace, name) for name in sorted(projects)}
    found: dict[str, int] = {}
    for project, name in wanted:
        rows = by_project[project] if project else [row for rows in by_project.values() for row in rows]
        place = f"project {project}" if project else f"workspace {workspace}"
        found[f"{project}/{name}"] = _one(rows, ("name", "identifier"), name, "pipeline", place)
    return found


async def pipelines_of(api: Api, workspace: str, project: str) -> list[Item]:
    """Return all pipelines of a project."""
    return await paged_list(api, workspace_path(workspace, "projects", project, "pipelines"), "pipelines", "id")


def _one(rows: Iterable[Item], keys: Sequence[str], name: str, what: str, place: str) -> int:
    """The first key that finds anything decides: an e-mail address before a display name."""
    rows = list(rows)
    for key in keys:
        ids = sorted({int(row["id"]) for row in rows if row.get(key) == name})
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
