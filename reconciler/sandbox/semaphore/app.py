"""A simulated Semaphore organization: projects, notifications and secrets, and workflows that run, with the quirks of the real API.

Four families of answers behind one root: the gateway (notifications, secrets, jobs), projecthub (projects), what runs (JSON texts
as errors), and the edge, which speaks plain text. Facts: the provider's documentation and its open server code.

State: ``organization``, ``tokens`` (``{TOKEN: {"user": ID, "permissions": ["*"]}}``), ``notifications``, ``secrets``,
``projects``, and what the modules of the parts say. A token named `TOKEN` that may do everything is there from the start.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from reconciler.sandbox.app import Action, Call, RefusedCall, Reply, Route
from reconciler.sandbox.semaphore import plumber as semaphore_plumber
from reconciler.sandbox.semaphore.records import StoredNotification, StoredNotificationSpec, StoredSecret
from reconciler.sandbox.semaphore.run_shapes import answered
from reconciler.sandbox.semaphore.shapes import (
    DENIED,
    INVALID,
    NOT_FOUND,
    PRECONDITION,
    UNIMPLEMENTED,
    UNKNOWN,
    UUID,
    body_of,
    check_rule,
    gateway_error,
    is_uuid,
    offset_of,
    page_token,
    populated,
    projecthub,
    refuse,
    secret_parts,
    shown_project,
)
from reconciler.sandbox.semaphore.state import SemaphoreState
from reconciler.sandbox.shapes import fill, json_object, json_objects, whole

TOKEN = "semaphore-sandbox-token"  # opens nothing but this simulator
_GATEWAY = ("/api/v1alpha/notifications", "/api/v1beta/secrets", "/api/v1alpha/jobs")
_MAX_PROJECTS_PAGE = 100
Item = TypeVar("Item", StoredNotification, StoredSecret)


class Semaphore(SemaphoreState):
    """Implements `reconciler.sandbox.app.Simulator`."""

    provider = "semaphore"
    defaults: Mapping[str, object] = {
        "secrets_exposed_content": False,  # an organization's feature; without it values are hidden and a PATCH is refused
        "organization_found": True,
        "address_allowed": True,  # an IP allow list answers 404
        "projects_per_page": 500,
        **semaphore_plumber.DEFAULTS,
    }

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self.plumber = semaphore_plumber.Plumber(self)
        super().__init__(clock=clock)

    def seed(self) -> dict[str, object]:
        """Return an organization with two projects and one token that may do everything."""
        return {
            "organization": {"name": "acme", "id": str(uuid.uuid5(uuid.NAMESPACE_DNS, "acme"))},
            "tokens": {TOKEN: {"user": str(uuid.uuid5(uuid.NAMESPACE_DNS, "ada")), "permissions": ["*"]}},
            "notifications": [],
            "secrets": [],
            "projects": [{"name": "payments"}, {"name": "web"}],
        }

    def restored(self) -> None:
        """Fill what a state from outside leaves out."""
        fill(self.state, {"notifications": [], "secrets": [], "projects": []})
        self.plumber.restored()

    def routes(self) -> Iterable[Route]:
        """Return the paths that are simulated."""
        notifications, secrets = "/api/v1alpha/notifications", "/api/v1beta/secrets"
        yield "GET", notifications, self.list_notifications
        yield "POST", notifications, self.create_notification
        yield "GET", f"{notifications}/{{key}}", self.get_notification
        yield "PATCH", f"{notifications}/{{key}}", self.update_notification
        yield "DELETE", f"{notifications}/{{key}}", self.delete_notification
        yield "GET", secrets, self.list_secrets
        yield "POST", secrets, self.create_secret
        yield "GET", f"{secrets}/{{key}}", self.get_secret
        yield "PATCH", f"{secrets}/{{key}}", self.update_secret
        yield "DELETE", f"{secrets}/{{key}}", self.delete_secret
        yield "GET", "/api/v1alpha/projects", self.list_projects
        yield "GET", "/api/v1alpha/projects/{name}", self.get_project
        yield from self.plumber.routes()

    def actions(self) -> Mapping[str, Action]:
        """What can be done without an API call; see `reconciler.sandbox.semaphore.plumber`."""
        return self.plumber.actions()

    # the edge

    def before(self, call: Call) -> None:
        """Refuse, in plain text, what the real edge refuses."""
        if call.path.startswith(semaphore_plumber.OPEN):
            return
        if any(name.startswith("x-semaphore-") for name in call.headers) or not self.settings["organization_found"]:
            raise RefusedCall(Reply(404, "Not Found"))
        if not self.settings["address_allowed"]:
            raise RefusedCall(Reply(404, "Your IP address is not allowed to access this organization."))
        if self.token_of(call) is None:
            raise RefusedCall(Reply(401, "Unauthorized"))
        if call.headers.get("user-agent", "").startswith("SemaphoreCLI"):
            raise RefusedCall(Reply(400, {"message": "Call rejected because the client is outdated."}))

    def malformed(self, call: Call, message: str) -> Reply:
        """Return an error of the path's family: an object from the gateway, a JSON text from all others."""
        return gateway_error(INVALID, f"proto: {message}") if call.path.startswith(_GATEWAY) else answered(400, message)

    def not_found(self, call: Call) -> Reply:
        """Each family answers an unknown path or method in its own way."""
        if call.path.startswith(_GATEWAY):
            known = call.path.count("/") <= 4
            return gateway_error(UNIMPLEMENTED, "Method Not Allowed") if known else gateway_error(NOT_FOUND, "Not Found")
        return Reply(404, "oops")

    # notifications

    def list_notifications(self, call: Call) -> Reply:
        """Sorted by name; at most 300 a page."""
        if not self.may(call, "organization.notifications.view"):
            refuse(DENIED, "Permission denied")
        return self._page(call, "notifications", self.records["notifications"], maximum=300, show=self._show_notification)

    def create_notification(self, call: Call) -> Reply:
        """A duplicate name is a failed precondition: 400, not 409."""
        if not self.may(call, "organization.notifications.manage"):
            refuse(DENIED, "Permission denied")
        name, spec = self._notification(call)
        self._unique(self.records["notifications"], name, "", (PRECONDITION, f"name '{name}' has already been taken"))
        token, now = self.token_of(call) or {}, str(int(self.clock()))
        item: StoredNotification = {
            "id": self._uuid(),
            "name": name,
            "spec": spec,
            "create_time": now,
            "update_time": now,
            "creator_id": token.get("user", ""),
        }
        with self.changing("notifications", self.records["notifications"]) as items:
            items.append(item)
        return Reply(200, self._show_notification(item))

    def get_notification(self, call: Call, key: str) -> Reply:
        """By id, or by name if the key is not a UUID."""
        return Reply(200, self._show_notification(self._notification_named(call, key, "view")))

    def update_notification(self, call: Call, key: str) -> Reply:
        """Replaces name and rules; the creator becomes the caller."""
        item = self._notification_named(call, key, "manage")
        name, spec = self._notification(call)
        self._unique(self.records["notifications"], name, item["id"], (PRECONDITION, f"name '{name}' has already been taken"))
        with self.changing("notifications", self.records["notifications"]):
            token = self.token_of(call) or {}
            item.update({"name": name, "spec": spec, "update_time": str(int(self.clock())), "creator_id": token.get("user", "")})
        return Reply(200, self._show_notification(item))

    def delete_notification(self, call: Call, key: str) -> Reply:
        """200 with an empty object."""
        item = self._notification_named(call, key, "manage")
        with self.changing("notifications", self.records["notifications"]) as items:
            items.remove(item)
        return Reply(200, {})

    def _notification(self, call: Call) -> tuple[str, StoredNotificationSpec]:
        body = body_of(call)
        name = str(json_object(body.get("metadata")).get("name") or "")
        if not name or is_uuid(name):
            refuse(UNKNOWN, "Internal error")  # no clause of the real code takes it
        rules = json_objects(json_object(body.get("spec")).get("rules"))
        for rule in rules:
            check_rule(rule)
        return name, {"rules": rules}

    def _show_notification(self, item: StoredNotification) -> dict[str, object]:
        fields: Mapping[str, object] = item
        metadata = {key: fields.get(key, "") for key in ("name", "id", "create_time", "update_time", "creator_id")}
        return {
            "metadata": metadata,
            "spec": {"rules": [populated(rule) for rule in item["spec"]["rules"]]},
            "status": {"failures": []},
        }

    # secrets

    def list_secrets(self, call: Call) -> Reply:
        """At most 100 a page."""
        if not self.may(call, "organization.secrets.view"):
            refuse(DENIED, "Permission denied")
        return self._page(call, "secrets", self.records["secrets"], maximum=100, show=self._show_secret)

    def create_secret(self, call: Call) -> Reply:
        """A duplicate name is an invalid argument here: another code than for notifications, and again 400."""
        if not self.may(call, "organization.secrets.manage"):
            refuse(DENIED, "Permission denied")
        name, data = secret_parts(body_of(call))
        self._unique(self.records["secrets"], name, "", (INVALID, "name has already been taken"))
        now = str(int(self.clock()))
        item: StoredSecret = {"id": self._uuid(), "name": name, "data": data, "create_time": now, "update_time": now}
        with self.changing("secrets", self.records["secrets"]) as items:
            items.append(item)
        return Reply(200, self._show_secret(item))

    def get_secret(self, call: Call, key: str) -> Reply:
        """By id, or by name if the key contains no UUID."""
        return Reply(200, self._show_secret(self._secret_named(call, key, "view")))

    def update_secret(self, call: Call, key: str) -> Reply:
        """Refused in every organization that hides secret values."""
        item = self._secret_named(call, key, "manage")
        if not self.settings["secrets_exposed_content"]:
            refuse(PRECONDITION, "Secret can not be updated with API")
        name, data = secret_parts(body_of(call))
        self._unique(self.records["secrets"], name, item["id"], (INVALID, "name has already been taken"))
        with self.changing("secrets", self.records["secrets"]):
            item.update({"name": name, "data": data, "update_time": str(int(self.clock()))})
        return Reply(200, self._show_secret(item))

    def delete_secret(self, call: Call, key: str) -> Reply:
        """200 with an empty object; notifications that name it stay as they are."""
        item = self._secret_named(call, key, "manage")
        with self.changing("secrets", self.records["secrets"]) as items:
            items.remove(item)
        return Reply(200, {})

    def _show_secret(self, item: StoredSecret) -> dict[str, object]:
        shown = bool(self.settings["secrets_exposed_content"])
        data = item["data"]
        return {
            "apiVersion": "v1beta",
            "kind": "Secret",
            "metadata": {
                "name": item["name"],
                "id": item["id"],
                "create_time": item["create_time"],
                "update_time": item["update_time"],
                "checkout_at": "0",
                "content_included": shown,
                "description": "",
            },
            "data": {
                "env_vars": [{**row, "value": row["value"] if shown else ""} for row in data["env_vars"]],
                "files": [{**row, "content": row["content"] if shown else ""} for row in data["files"]],
            },
            "org_config": None,
        }

    # projects

    def list_projects(self, call: Call) -> Reply:
        """A bare list, without a content type; pages are cut first and filtered by permission afterwards."""
        text = call.query.get("page", "1")
        if not re.fullmatch(r"[+-]?\d+", text):
            return projecthub(400, {"message": "page must be a number"})
        if not 1 <= int(text) <= _MAX_PROJECTS_PAGE:
            bound = "at least 1" if int(text) < 1 else f"at most {_MAX_PROJECTS_PAGE}"
            return projecthub(400, {"message": f"page must be {bound}"})
        if not self.may(call, "organization.projects.view"):
            return projecthub(401, {"message": "Unauthorized"})
        page, size = int(text), int(self.number("page_size") or self.number("projects_per_page"))
        rows = self.records["projects"]
        shown = [shown_project(row) for row in rows[(page - 1) * size : page * size] if not row.get("hidden")]
        return projecthub(200, shown, {"x-page": str(page), "x-has-more": "true" if len(rows) > page * size else "false"})

    def get_project(self, call: Call, name: str) -> Reply:
        """By name only."""
        project = next((row for row in self.records["projects"] if row["name"] == name), None)
        if project is None:
            return projecthub(404, {"message": "Not found"})
        if project.get("hidden") or not self.may(call, "project.view"):
            return projecthub(401, {"message": "Unauthorized"})
        return projecthub(200, shown_project(project))

    # shared

    def _page(
        self, call: Call, field: str, items: list[Item], *, maximum: int, show: Callable[[Item], dict[str, object]]
    ) -> Reply:
        size = whole(call.query.get("page_size") or 100)
        if size > maximum:
            refuse(INVALID, f"Page size can't exceed {maximum}")
        size = min(size or 100, int(self.number("page_size") or size or 100))
        rows = sorted(self.lagged(field, items), key=lambda item: item["name"])
        start = offset_of(call.query.get("page_token", ""))
        following = page_token(start + size) if len(rows) > start + size else ""
        return Reply(200, {field: [show(item) for item in rows[start : start + size]], "next_page_token": following})

    def _notification_named(self, call: Call, key: str, right: str) -> StoredNotification:
        by_id = is_uuid(key)
        item = next((row for row in self.records["notifications"] if (row["id"] if by_id else row["name"]) == key), None)
        if item is None or not self.may(call, f"organization.notifications.{right}"):
            refuse(NOT_FOUND, f"Notification {key} not found")
        return item

    def _secret_named(self, call: Call, key: str, right: str) -> StoredSecret:
        by_id = UUID.search(key) is not None
        item = next((row for row in self.records["secrets"] if (row["id"] if by_id else row["name"]) == key), None)
        if item is None or not self.may(call, f"organization.secrets.{right}"):
            refuse(NOT_FOUND, f"Secret {key} not found")
        return item

    def _unique(
        self, items: Sequence[StoredNotification] | Sequence[StoredSecret], name: str, own_id: str, error: tuple[int, str]
    ) -> None:
        if not self.settings["accept_duplicates"] and any(row["name"] == name and row["id"] != own_id for row in items):
            refuse(*error)

    def _uuid(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"semaphore-{self.next_id()}"))
