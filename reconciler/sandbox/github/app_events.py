"""The webhook of Apps in the GitHub simulator: its config, its deliveries, and the events that only Apps get."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from reconciler.sandbox.app import Call, Reply, Route
from reconciler.sandbox.github import app_shapes, shapes
from reconciler.sandbox.github.deliveries import HookDeliveries
from reconciler.sandbox.github.hooks import hook_config
from reconciler.sandbox.github.records import StoredApp, StoredInstallation
from reconciler.sandbox.github.request import body_of
from reconciler.sandbox.github.state import GitHubState


@dataclasses.dataclass(frozen=True, slots=True)
class RepositoryChange:
    """Repositories that were added to an installation or removed from it, by name."""

    added: Sequence[str] = ()
    removed: Sequence[str] = ()


class AppHooks:
    """Handles ``/app/hook/…``, and sends what happens to installations."""

    def __init__(self, app: GitHubState, deliveries: HookDeliveries) -> None:
        self.app, self._deliveries = app, deliveries

    def routes(self) -> Iterable[Route]:
        path = "/app/hook/deliveries"
        yield from (
            ("GET", "/app/hook/config", self._config),
            ("PATCH", "/app/hook/config", self._configure),
            ("GET", path, self._list),
            ("GET", f"{path}/{{delivery_id}}", self._get),
            ("POST", f"{path}/{{delivery_id}}/attempts", self._attempt),
        )

    def _config(self, _call: Call) -> Reply:
        return Reply(200, shapes.config(self.app.own_app()["hook"]["config"]))

    def _configure(self, call: Call) -> Reply:
        hook = self.app.own_app()["hook"]
        hook["config"] = hook_config({**hook["config"], **body_of(call)})
        hook["updated_at"] = shapes.stamp(self.app.clock())  # no call switches it on or off
        return Reply(200, shapes.config(hook["config"]))

    def _list(self, call: Call) -> Reply:
        return self._deliveries.listed(call, self.app.own_app()["hook"])

    def _get(self, _call: Call, delivery_id: str) -> Reply:
        return self._deliveries.shown(self.app.own_app()["hook"], delivery_id)

    def _attempt(self, _call: Call, delivery_id: str) -> Reply:
        return self._deliveries.repeat(self.app.own_app()["hook"], delivery_id)

    # events

    def ping(self, app: StoredApp) -> None:
        """Send the event that follows the registration of an App with a webhook."""
        hook = app["hook"]
        if hook["active"]:
            shown = app_shapes.hook(app)
            self._deliveries.send(hook, "ping", {"zen": "Design for failure.", "hook_id": hook["id"], "hook": shown})

    def installation(self, app: StoredApp, installation: StoredInstallation, action: str) -> None:
        """Send ``installation``; with the repositories where the action is about them all."""
        extra: dict[str, object] = {}
        if action in ("created", "deleted"):
            extra["repositories"] = self._short(self.app.repositories_of(installation))
        self.send(app, installation, "installation", {"action": action, **extra, "requester": None})

    def repositories(self, app: StoredApp, installation: StoredInstallation, change: RepositoryChange) -> None:
        """Send ``installation_repositories``."""
        payload: dict[str, object] = {
            "action": "added" if change.added else "removed",
            "repository_selection": installation["repository_selection"],
            "repositories_added": self._short(change.added),
            "repositories_removed": self._short(change.removed),
            "requester": None,
        }
        self.send(app, installation, "installation_repositories", payload)

    def send(
        self, app: StoredApp, installation: StoredInstallation, event: str, payload: Mapping[str, object]
    ) -> dict[str, object]:
        """Send an event of an installation to its App, whatever the App subscribes to; it gets the keys that all have."""
        if not app["hook"]["active"]:
            return {"deliveries": []}
        complete = {
            "installation": app_shapes.installation(self.app, app, installation),
            "sender": self.app.user("sandbox-bot"),
            **payload,
        }
        return {"deliveries": [self._deliveries.send(app["hook"], event, complete)["id"]]}

    def _short(self, names: Sequence[str]) -> list[dict[str, object]]:
        shown = [self.app.shown(self.app.base_url, name) for name in names]
        return [{key: repo[key] for key in ("id", "node_id", "name", "full_name", "private")} for repo in shown]
