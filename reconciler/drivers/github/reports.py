"""Results, written back to GitHub as statuses of a Deployment or of a commit, each once.

Facts: GitHub's OpenAPI description of deployments and of commit statuses, and its answers. Histories only grow: a status that is
written twice stays twice. The marker at the end of its description identifies a status of ours, the one in its payload a
Deployment. GitHub takes texts in one line, without characters above U+FFFF: 140 characters of a description, 255 of an
environment or a context, and links only with http(s); it answers 422 to others.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import orjson

from reconciler.drivers.base import ApiResponse
from reconciler.drivers.connection import Api
from reconciler.drivers.github import api as names
from reconciler.drivers.github.errors import details_of
from reconciler.drivers.wire import find
from reconciler.model.errors import NotFound, OutcomeUnknown, ValidationFailed
from reconciler.model.executions import DeploymentRequest, ReportKind, StatusReport
from reconciler.model.values import is_no_commit

PAYLOAD_KEY = "reconciler"
MAX_DESCRIPTION = 140
MAX_NAME = 255
MAX_LINK = 2_000
_DECORATION = frozenset({"description", "log_url", "environment_url", "target_url"})
_NOT_DECORATION = ("no commit found", "no ref found", "maximum number of statuses")
"""Messages of refusals that no description or link causes."""
_TARGET = {
    ReportKind.DEPLOYMENT: (re.compile(r"[0-9]{1,20}"), "the id of a deployment"),
    ReportKind.COMMIT: (re.compile(r"[0-9a-fA-F]{40}|[0-9a-fA-F]{64}"), "a commit"),
}
_SPACES = re.compile(r"\s+")
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
_ABOVE_BMP = re.compile("[\U00010000-\U0010ffff]+")


class GitHubStatus(msgspec.Struct, frozen=True):
    """A status of a Deployment or a commit; those of a Deployment have no context."""

    id: int
    state: str | None = None
    description: str | None = None
    context: str | None = None


class GitHubDeployment(msgspec.Struct, frozen=True):
    """A Deployment; its payload is whatever its maker sent."""

    id: int
    payload: object = None


class GitHubCommit(msgspec.Struct, frozen=True):
    sha: str


class GitHubReporter:
    """Implements `reconciler.drivers.base.Reporter`."""

    async def report(self, api: Api, status: StatusReport) -> bool:
        """Write a status unless it exists. Raises `NotFound` when the Deployment or the repository is gone, `ValidationFailed`
        when GitHub refuses it (a commit that does not exist; more than 1,000 of one context).
        """
        return await names.follow_rename(_root(api, status.repository), partial(_report, api, status))

    async def deployment(self, api: Api, request: DeploymentRequest) -> str:
        """Return the id of the Deployment that carries the marker, or of a new one.

        GitHub merges nothing for it and requires no other status: the decision to deploy was made before. Raises `Conflict`
        or `ValidationFailed` where GitHub creates none.
        """
        return await names.follow_rename(_root(api, request.repository), partial(_deployment, api, request))

    async def commit(self, api: Api, repository: str, ref: str) -> str:
        """Return the commit of a branch or a tag (``refs/heads/…``, ``refs/tags/…``), through annotated tags too."""
        return await names.follow_rename(_root(api, repository), partial(_commit, api, ref))


def _root(api: Api, repository: str) -> str:
    return f"/repos/{names.repository_key(repository, api.connection.account)}"


# -- statuses -------------------------------------------------------------------------------------------------------------


async def _report(api: Api, status: StatusReport, root: str) -> bool:
    shape, what = _TARGET[status.kind]
    if shape.fullmatch(status.target) is None:
        raise ValidationFailed(f"'{status.target[:80]}' is not {what}")
    if status.kind is ReportKind.DEPLOYMENT:
        history = path = f"{root}/deployments/{status.target}/statuses"
        body = _deployment_status(status)
    else:
        history, path = f"{root}/commits/{status.target}/statuses", f"{root}/statuses/{status.target}"
        body = _commit_status(status)
    async for rows, _ in names.typed_pages(api, history, list[GitHubStatus]):
        if any(_is_same(row, status) for row in rows):
            return False
    await _post_decorated(api, path, body, {"description": fitting("", status.marker)})
    return True


async def _post_decorated(api: Api, path: str, body: Mapping[str, Any], bare: Mapping[str, Any]) -> ApiResponse:
    """Send ``body``; if GitHub refuses a text or a link in it, send it again with ``bare`` in place of all decoration.

    A status matters more than its text.
    """
    try:
        return await api.request("POST", path, json=body)
    except ValidationFailed as error:
        plain_body = {key: value for key, value in body.items() if key not in _DECORATION} | dict(bare)
        message = f"{error.message} {' '.join(details_of(error.body))}".lower()
        if plain_body == body or error.status != 422 or any(text in message for text in _NOT_DECORATION):
            raise
        return await api.request("POST", path, json=plain_body)


def _is_same(row: GitHubStatus, status: StatusReport) -> bool:
    """Whether GitHub's status is this one; the case of a context does not matter."""
    if status.kind is ReportKind.COMMIT and (row.context or "").lower() != name_of(status.context or "default").lower():
        return False
    return row.state == status.state and ends_with(row.description or "", status.marker)


def _deployment_status(status: StatusReport) -> dict[str, Any]:
    body: dict[str, Any] = {
        "state": status.state,
        "description": fitting(status.description, status.marker),
        "auto_inactive": True,
    }
    optional = {"log_url": link_of(status.log_url), "environment_url": link_of(status.environment_url)}
    return body | {key: value for key, value in optional.items() if value}


def _commit_status(status: StatusReport) -> dict[str, Any]:
    body = {"state": status.state, "description": fitting(status.description, status.marker)}
    optional = {"context": name_of(status.context), "target_url": link_of(status.log_url)}
    return body | {key: value for key, value in optional.items() if value}


# -- commits and Deployments ----------------------------------------------------------------------------------------------


async def _commit(api: Api, ref: str, root: str) -> str:
    path = f"{root}/commits/{quote(ref.removeprefix('refs/'), safe='')}"
    try:
        return (await names.read(api, path, GitHubCommit)).sha
    except ValidationFailed as error:
        raise NotFound(f"{ref} does not exist any more", status=error.status, request=error.request) from None


async def _deployment(api: Api, request: DeploymentRequest, root: str) -> str:
    path, environment = f"{root}/deployments", name_of(request.environment)
    if is_no_commit(request.ref):
        raise ValidationFailed(f"'{request.ref}' is not a commit: its ref was deleted")
    params = {"ref": request.ref, "environment": environment}
    async for rows, _ in names.typed_pages(api, path, list[GitHubDeployment], params=params):
        for row in rows:
            if _marker_of(row) == request.marker:
                return str(row.id)
    body: dict[str, Any] = {
        "ref": request.ref,
        "task": request.task,
        "environment": environment,
        "description": description_of(request.description),
        "auto_merge": False,
        "required_contexts": [],
        "payload": {PAYLOAD_KEY: request.marker, "stages": list(request.through)},
        "transient_environment": request.transient,
    }
    if request.production is not None:
        body["production_environment"] = request.production
    answer = await _post_decorated(api, path, body, {})
    if answer.status != 201:  # 202: GitHub merged the default branch into the ref instead
        raise ValidationFailed(
            f"GitHub created no deployment of {request.ref} ({answer.status})", status=answer.status, request=f"POST {path}"
        )
    number = find(answer.json(), int, "id")
    if number is None:
        message = f"POST {path}: a deployment was created, and the answer has no id"
        raise OutcomeUnknown(message, request=f"POST {path}")
    return str(number)


def _marker_of(row: GitHubDeployment) -> str | None:
    """Return our marker in a Deployment's payload, which is an object, or the JSON text of one."""
    payload = row.payload
    if isinstance(payload, str):
        try:
            payload = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return None
    return find(payload, str, PAYLOAD_KEY)


# -- texts that GitHub takes ----------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Return ``text`` in one line: white space as single spaces, nothing invisible, ``?`` for what GitHub does not store."""
    return _ABOVE_BMP.sub("?", _INVISIBLE.sub("", _SPACES.sub(" ", text))).strip()


def description_of(text: str) -> str:
    line = plain(text)
    return line if len(line) <= MAX_DESCRIPTION else line[: MAX_DESCRIPTION - 1] + "…"


def name_of(text: str) -> str:
    """Return a name of an environment or a context that GitHub takes; a changed name ends in a digest of the original.

    So two different names stay different, and the same name is found again.
    """
    line = plain(text)
    if line == text and len(line) <= MAX_NAME:
        return text
    suffix = "-" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
    return line[: MAX_NAME - len(suffix)] + suffix


def link_of(text: str) -> str:
    """Return a link that GitHub takes; empty for one that it would refuse."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return ""
    valid = parts.scheme in ("http", "https") and parts.netloc and len(text) <= MAX_LINK
    return text if valid and plain(text) == text and " " not in text else ""


def ends_with(description: str, marker: str) -> bool:
    """Whether ``marker`` is the last word of ``description``, brackets and stops aside."""
    return bool(marker) and re.search(rf"(?<![\w-]){re.escape(marker)}\W*\Z", description) is not None


def fitting(description: str, marker: str) -> str:
    """Return a description that GitHub takes, with the whole marker at its end."""
    description = plain(description)
    if not ends_with(description, marker):
        description = f"{description} ({marker})".lstrip()
    if len(description) <= MAX_DESCRIPTION:
        return description
    begin = description.rindex(marker)
    tail = description[max(0, begin - 2) :] if description[:begin].endswith(" (") else description[begin:]
    return description[: MAX_DESCRIPTION - len(tail) - 1] + "…" + tail
