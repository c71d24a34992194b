"""Results, written back to GitHub as statuses of a Deployment or of a commit, each once.

Facts: GitHub's OpenAPI description of deployments and of commit statuses. Histories only grow: a status that was written twice
stays twice. A status of ours is found again by the marker at the end of its description, a Deployment by the one in its payload.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

import orjson

from reconciler.drivers.base import Api
from reconciler.drivers.github import names
from reconciler.drivers.github.renames import following
from reconciler.drivers.paging import paginate
from reconciler.model.errors import OutcomeUnknown, ProviderProtocolError, ValidationFailed
from reconciler.model.executions import DeploymentRequest, ReportKind, StatusReport

PER_PAGE = 100
MAX_DESCRIPTION = 140
PAYLOAD_KEY = "reconciler"
Item = Mapping[str, Any]
_TARGET = {
    ReportKind.DEPLOYMENT: (re.compile(r"[0-9]{1,20}"), "id of a deployment"),
    ReportKind.COMMIT: (re.compile(r"[0-9a-fA-F]{40}|[0-9a-fA-F]{64}"), "commit"),
}


class GitHubReporter:
    """Implements `reconciler.drivers.running.Reporter`."""

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
    await api.request("POST", path, json=body)
    return True


def _is_same(row: Item, status: StatusReport) -> bool:
    """Whether a status that is there is this one; a context is one in any case, and a Deployment's statuses have none."""
    if status.kind is ReportKind.COMMIT and str(row.get("context") or "").lower() != (status.context or "default").lower():
        return False
    return row.get("state") == status.state and ends_with(str(row.get("description") or ""), status.marker)


def _deployment_status(status: StatusReport) -> dict[str, Any]:
    body: dict[str, Any] = {
        "state": status.state,
        "description": fitting(status.description, status.marker),
        "auto_inactive": True,
    }
    optional = {"log_url": status.log_url, "environment_url": status.environment_url}
    return body | {key: value for key, value in optional.items() if value}


def _commit_status(status: StatusReport) -> dict[str, Any]:
    body = {"state": status.state, "description": fitting(status.description, status.marker)}
    return body | {key: value for key, value in (("context", status.context), ("target_url", status.log_url)) if value}


async def _deployment(api: Api, request: DeploymentRequest, root: str) -> str:
    path = f"{root}/deployments"
    async for row in _rows(api, path, {"ref": request.ref, "environment": request.environment}):
        if _payload(row).get(PAYLOAD_KEY) == request.marker:
            return _id(row)
    body: dict[str, Any] = {
        "ref": request.ref,
        "task": request.task,
        "environment": request.environment,
        "description": request.description[:MAX_DESCRIPTION],
        "auto_merge": False,
        "required_contexts": [],
        "payload": {PAYLOAD_KEY: request.marker, "stages": list(request.through)},
        "transient_environment": request.transient,
    }
    if request.production is not None:
        body["production_environment"] = request.production
    answer = await api.request("POST", path, json=body)
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


def ends_with(description: str, marker: str) -> bool:
    """Whether ``marker`` is the last word of ``description``, brackets and stops aside."""
    return bool(marker) and re.search(rf"(?<![\w-]){re.escape(marker)}\W*\Z", description) is not None


def fitting(description: str, marker: str) -> str:
    """Return ``description`` in at most `MAX_DESCRIPTION` characters, the marker whole at its end."""
    if not ends_with(description, marker):
        description = f"{description} ({marker})"
    if len(description) <= MAX_DESCRIPTION:
        return description
    begin = description.rindex(marker)
    tail = description[max(0, begin - 2) :] if description[:begin].endswith(" (") else description[begin:]
    return description[: MAX_DESCRIPTION - len(tail) - 1] + "…" + tail
