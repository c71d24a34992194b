"""Results, written back to GitHub as statuses of a Deployment or of a commit, each once.

Facts: GitHub's OpenAPI description of deployments and of commit statuses. Histories only grow: a status that was written twice
stays twice. A status of ours is found again by the marker at the end of its description, a Deployment by the one in its payload.

Texts as GitHub takes them in statuses and Deployments: one line, no character above U+FFFF, of bounded length. Pure.

Facts: GitHub's OpenAPI description of deployments and statuses (a description has 140 characters at most), and its answers: 422
for a longer environment or context than 255 characters, for a character above U+FFFF, and for a link that is not http(s).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from reconciler.drivers.base import Api, ApiResponse
from reconciler.drivers.github import api as names
from reconciler.drivers.github.api import following
from reconciler.drivers.github.errors import details_of
from reconciler.drivers.http.paging import paginate
from reconciler.model.errors import NotFound, OutcomeUnknown, ProviderProtocolError, ValidationFailed
from reconciler.model.executions import DeploymentRequest, ReportKind, StatusReport
from reconciler.model.values import is_no_commit

PER_PAGE = 100
PAYLOAD_KEY = "reconciler"
Item = Mapping[str, Any]
_DECORATION = frozenset({"description", "log_url", "environment_url", "target_url"})
_NOT_DECORATION = ("no commit found", "no ref found", "maximum number of statuses")
"""What GitHub says of a refusal that no text has to do with."""
_TARGET = {
    ReportKind.DEPLOYMENT: (re.compile(r"[0-9]{1,20}"), "id of a deployment"),
    ReportKind.COMMIT: (re.compile(r"[0-9a-fA-F]{40}|[0-9a-fA-F]{64}"), "commit"),
}


class GitHubReporter:
    """Implements `reconciler.drivers.base.Reporter`."""

    async def report(self, api: Api, status: StatusReport) -> bool:
        """Write a status unless it is there. Raises `NotFound` when the Deployment or the repository is gone, `ValidationFailed`
        when GitHub refuses it (a commit that is not there; more than 1,000 of one context).
        """
        return await following(api, _root(api, status.repository), partial(_report, api, status))

    async def deployment(self, api: Api, request: DeploymentRequest) -> str:
        """Return the id of the Deployment that carries the marker, or of a new one.

        Nothing is merged for it, and no other status has to be green: whether to deploy was decided before. Raises `Conflict`
        or `ValidationFailed` where GitHub makes none.
        """
        return await following(api, _root(api, request.repository), partial(_deployment, api, request))

    async def commit(self, api: Api, repository: str, ref: str) -> str:
        """Return the commit that a branch or a tag (``refs/heads/…``, ``refs/tags/…``) leads to, through annotated tags too."""
        return await following(api, _root(api, repository), partial(_commit, api, ref))


def _root(api: Api, repository: str) -> str:
    return f"/repos/{names.repository_key(repository, api.connection.account)}"


async def _report(api: Api, status: StatusReport, root: str) -> bool:
    shape, word = _TARGET[status.kind]
    if shape.fullmatch(status.target) is None:
        raise ValidationFailed(f"'{status.target[:80]}' is no {word}")
    if status.kind is ReportKind.DEPLOYMENT:
        written = path = f"{root}/deployments/{status.target}/statuses"
        body = _deployment_status(status)
    else:
        written, path = f"{root}/commits/{status.target}/statuses", f"{root}/statuses/{status.target}"
        body = _commit_status(status)
    async for row in _rows(api, written, {}):
        if _is_same(row, status):
            return False
    await _undecorated(api, path, body, {"description": fitting("", status.marker)})
    return True


async def _undecorated(api: Api, path: str, body: Item, bare: Item) -> ApiResponse:
    """Send ``body``; where GitHub refuses a text or a link in it, once more without them: a status matters more than its words.

    ``bare`` takes the place of all that is decoration.
    """
    try:
        return await api.request("POST", path, json=body)
    except ValidationFailed as error:
        less = {key: value for key, value in body.items() if key not in _DECORATION} | dict(bare)
        said = f"{error.message} {' '.join(details_of(error.body))}".lower()
        if less == body or error.status != 422 or any(word in said for word in _NOT_DECORATION):
            raise
        return await api.request("POST", path, json=less)


def _is_same(row: Item, status: StatusReport) -> bool:
    """Whether a status that is there is this one; a context is one in any case, and a Deployment's statuses have none."""
    if status.kind is ReportKind.COMMIT and str(row.get("context") or "").lower() != name_of(status.context or "default").lower():
        return False
    return row.get("state") == status.state and ends_with(str(row.get("description") or ""), status.marker)


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


async def _commit(api: Api, ref: str, root: str) -> str:
    path = f"{root}/commits/{quote(ref.removeprefix('refs/'), safe='')}"
    try:
        found = (await api.request("GET", path)).json()
    except ValidationFailed as error:
        raise NotFound(f"there is no {ref} any more", status=error.status, request=error.request) from None
    sha = found.get("sha") if isinstance(found, Mapping) else None
    if not isinstance(sha, str):
        raise ProviderProtocolError(f"GET {path}: no commit", request=f"GET {path}")
    return sha


async def _deployment(api: Api, request: DeploymentRequest, root: str) -> str:
    path, environment = f"{root}/deployments", name_of(request.environment)
    if is_no_commit(request.ref):
        raise ValidationFailed(f"'{request.ref}' is no commit: its ref was deleted")
    async for row in _rows(api, path, {"ref": request.ref, "environment": environment}):
        if _payload(row).get(PAYLOAD_KEY) == request.marker:
            return _id(row)
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
    answer = await _undecorated(api, path, body, {})
    if answer.status != 201:  # 202: GitHub merged the default branch in instead
        raise ValidationFailed(
            f"GitHub made no deployment of {request.ref} ({answer.status})", status=answer.status, request=f"POST {path}"
        )
    made = answer.json()
    if not isinstance(made, Mapping) or not _is_id(made.get("id")):
        raise OutcomeUnknown(f"POST {path}: a deployment was made, and the answer does not name it", request=f"POST {path}")
    return _id(made)


async def _rows(api: Api, path: str, params: Mapping[str, str | int]) -> AsyncIterator[Item]:
    """Yield every row of a list, all pages; raises `ProviderProtocolError` for another shape."""
    async for page in paginate(api, path, params={**params, "per_page": PER_PAGE}):
        rows = page.json()
        if not isinstance(rows, list) or not all(isinstance(row, Mapping) and _is_id(row.get("id")) for row in rows):
            raise ProviderProtocolError(f"GET {path}: no list", request=f"GET {path}")
        for row in rows:
            yield row


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _id(row: Item) -> str:
    return str(row["id"])


def _payload(row: Item) -> Item:
    """Return a Deployment's payload: an object, or the JSON text of one."""
    value = row.get("payload")
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return {}
    return value if isinstance(value, Mapping) else {}


MAX_DESCRIPTION = 140
MAX_NAME = 255
MAX_LINK = 2_000
_SPACES = re.compile(r"\s+")
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
_ABOVE = re.compile("[\U00010000-\U0010ffff]+")


def plain(text: str) -> str:
    """Return ``text`` in one line: white space as single spaces, nothing invisible, `?` for what GitHub does not store."""
    return _ABOVE.sub("?", _UNSEEN.sub("", _SPACES.sub(" ", text))).strip()


def description_of(text: str) -> str:
    """Return a description as GitHub takes it."""
    kept = plain(text)
    return kept if len(kept) <= MAX_DESCRIPTION else kept[: MAX_DESCRIPTION - 1] + "…"


def name_of(text: str) -> str:
    """Return the name of an environment or a context as GitHub takes it: one that has to change ends in a digest of what it was.

    Two names that differ stay two names, and the same name is found again.
    """
    kept = plain(text)
    if kept == text and len(kept) <= MAX_NAME:
        return text
    mark = "-" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
    return kept[: MAX_NAME - len(mark)] + mark


def link_of(text: str) -> str:
    """Return a link as GitHub takes it; empty for one that it would refuse."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return ""
    fits = parts.scheme in ("http", "https") and parts.netloc and len(text) <= MAX_LINK
    return text if fits and plain(text) == text and " " not in text else ""


def ends_with(description: str, marker: str) -> bool:
    """Whether ``marker`` is the last word of ``description``, brackets and stops aside."""
    return bool(marker) and re.search(rf"(?<![\w-]){re.escape(marker)}\W*\Z", description) is not None


def fitting(description: str, marker: str) -> str:
    """Return ``description`` as GitHub takes it, the marker whole at its end."""
    description = plain(description)
    if not ends_with(description, marker):
        description = f"{description} ({marker})".lstrip()
    if len(description) <= MAX_DESCRIPTION:
        return description
    begin = description.rindex(marker)
    tail = description[max(0, begin - 2) :] if description[:begin].endswith(" (") else description[begin:]
    return description[: MAX_DESCRIPTION - len(tail) - 1] + "…" + tail
