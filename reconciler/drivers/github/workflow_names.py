"""Which workflow a manifest means: by id, by file, or by name. Lists keep workflows that were deleted or disabled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from reconciler.drivers.base import Api
from reconciler.drivers.github.runs import Item, listed
from reconciler.model.errors import NotFound, PermissionDenied, ValidationFailed

_SHOWN = 20


async def workflow_key(api: Api, root: str, wanted: Any, *, runnable: bool = True) -> str:
    """Return what names the workflow ``wanted`` in a path: its id, or its file where no other workflow has the same.

    A number, or ``{id: …}``, is an id; a text that ends in ``.yml`` or ``.yaml`` is a file; any other text, or ``{name: …}``, is a
    name. Of several the active one is meant. With ``runnable`` one that is not active is refused. Raises `ValidationFailed`.
    """
    number = wanted.get("id") if isinstance(wanted, Mapping) else wanted
    if isinstance(number, int) and not isinstance(number, bool):
        return str(number)
    text = shown_name(wanted).strip()
    if not isinstance(wanted, Mapping) and text.endswith((".yml", ".yaml")):
        return await _by_file(api, root, text, runnable=runnable)
    rows = await listed(api, f"{root}/actions/workflows", "workflows", {})
    named = [row for row in rows if row.get("name") == text]
    stems = [] if isinstance(wanted, Mapping) else [row for row in rows if _file(row).partition(".")[0] == text]
    found = _active(named) or _active(stems) or named or stems
    if not found:
        raise ValidationFailed(f"there is no workflow '{text}': {_shown(rows) or 'none'}", hint="Name the workflow's file.")
    return str(_only(found, text, runnable=runnable)["id"])


def shown_name(wanted: Any) -> str:
    """Return ``wanted`` as a text."""
    if isinstance(wanted, Mapping):
        return str(wanted.get("name") or wanted.get("id") or "")
    return str(wanted or "")


async def _by_file(api: Api, root: str, text: str, *, runnable: bool) -> str:
    file = text.rpartition("/")[2]
    try:
        rows = await listed(api, f"{root}/actions/workflows", "workflows", {})
    except (NotFound, PermissionDenied):
        rows = []  # what may be done with the workflow itself is answered where it is done
    found = [row for row in rows if _file(row) == file]
    if len(found) > 1 or (found and not _active(found)):
        return str(_only(found, text, runnable=runnable)["id"])
    return quote(file, safe="")


def _only(found: Sequence[Item], text: str, *, runnable: bool) -> Item:
    """Return the one that is meant: the active one of ``found``, or without ``runnable`` the one that is left."""
    active = _active(found)
    if len(active) > 1 or (not active and not runnable and len(found) > 1):
        raise ValidationFailed(
            f"there is more than one workflow '{text}': {_shown(active or found)}",
            hint="Name the workflow's file, or give its `id`.",
        )
    if not active and runnable:
        raise ValidationFailed(
            f"the workflow '{text}' is not active: {_shown(found)}",
            hint="Enable it at GitHub, or name another one. A deleted workflow stays in GitHub's lists.",
        )
    return (active or found)[0]


def _active(rows: Sequence[Item]) -> list[Item]:
    """Return those that run; a server that shows no state shows only what runs."""
    return [row for row in rows if row.get("state", "active") == "active"]


def _file(row: Item) -> str:
    return str(row.get("path") or "").rpartition("/")[2]


def _shown(rows: Sequence[Item]) -> str:
    active = {id(row) for row in _active(rows)}
    names = sorted(f"{row.get('name')} ({_file(row)}{'' if id(row) in active else ', ' + str(row['state'])})" for row in rows)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
