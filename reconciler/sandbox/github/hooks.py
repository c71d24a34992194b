"""Hooks of the GitHub simulator, on repositories and organizations."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import partial
from urllib.parse import urlsplit

from reconciler.sandbox.app import Call, Reply, Route
from reconciler.sandbox.github import request as request
from reconciler.sandbox.github import shapes as shapes
from reconciler.sandbox.github.deliveries import HookDeliveries
from reconciler.sandbox.github.records import StoredHook
from reconciler.sandbox.github.request import body_of
from reconciler.sandbox.github.state import GitHubState, HookOwner
from reconciler.sandbox.shapes import Text, fill, fits, is_object, texts

MAX_PER_EVENT = 20
_FIELDS = frozenset({"name", "config", "events", "active"})
_PATCH_FIELDS = frozenset({"config", "events", "add_events", "remove_events", "active"})
_CONFIG_FIELDS = frozenset({"url", "content_type", "secret", "insecure_ssl", "username", "password"})


_FILL: Mapping[str, object] = {
    "id": 0,
    "name": "web",
    "active": True,
    "events": ["push"],
    "config": {},
    "last_response": {"code": None, "status": "unused", "message": None},
}
invalid = partial(request.invalid, "Hook")


class RepositoryHooks:
    """Handlers of everything below ``…/hooks``."""

    def __init__(self, app: GitHubState, deliveries: HookDeliveries) -> None:
        self.app, self._deliveries = app, deliveries

    def routes(self, prefix: str) -> Iterable[Route]:
        """Return the routes below ``prefix``: a repository by name, by id, or an organization."""
        hooks, item = f"{prefix}/hooks", f"{prefix}/hooks/{{hook_id}}"
        yield from (
            ("GET", hooks, self._list),
            ("POST", hooks, self._create),
            ("GET", item, self._get),
            ("PATCH", item, self._patch),
            ("DELETE", item, self._delete),
            ("GET", f"{item}/config", self._get_config),
            ("PATCH", f"{item}/config", self._patch_config),
            ("POST", f"{item}/pings", self._ping),
        )
        if "org" not in prefix:
            yield "POST", f"{item}/tests", self._test

    def restored(self) -> None:
        """Fill what a hook that was put from outside leaves out."""
        now = shapes.stamp(self.app.clock())
        for hooks in self.app.records["hooks"].values():
            for hook in hooks:
                fill(hook, {**_FILL, "created_at": now, "updated_at": now})
                hook["id"] = hook["id"] or self.app.next_id()

    # hooks

    def _list(self, call: Call, **where: str) -> Reply:
        target = self.app.target(call, where, write=False)
        hooks, headers = self.app.page(call, self.app.lagged(target.key, self.app.hooks_of(target)), f"{target.link_path}/hooks")
        return Reply(200, [self._shown(call, target, hook) for hook in hooks], headers)

    def _get(self, call: Call, **where: str) -> Reply:
        target, hook = self.app.hook_named(call, where, write=False)
        return Reply(200, self._shown(call, target, hook))

    def _create(self, call: Call, **where: str) -> Reply:
        target = self.app.target(call, where, write=True)
        body = body_of(call)
        unknown = sorted(set(body) - _FIELDS)
        if unknown:
            raise invalid(f'Invalid request.\n\n"{unknown[0]}" is not a permitted key.')
        if body.get("name", "web") != "web":
            raise invalid(code="invalid", field="name")
        now = shapes.stamp(self.app.clock())
        hook: StoredHook = {
            "id": 0,
            "name": "web",
            "active": _flag(body.get("active", True)),
            "events": _events(body.get("events", ["push"])),
            "config": hook_config(body.get("config")),
            "created_at": now,
            "updated_at": now,
            "last_response": {"code": None, "status": "unused", "message": None},
        }
        self._check(target, hook)
        hook["id"] = self.app.next_id()
        with self.app.changing(target.key, self.app.hooks_of(target)) as hooks:
            hooks.append(hook)
        self._deliveries.send(hook, "ping", self._ping_payload(call, target, hook))
        return Reply(201, self._shown(call, target, hook), {"location": self._url(call, target, hook)})

    def _patch(self, call: Call, **where: str) -> Reply:
        target, hook = self.app.hook_named(call, where, write=True)
        body = body_of(call)
        unknown = sorted(set(body) - _PATCH_FIELDS - {"name"})
        if unknown:
            raise invalid(f'Invalid request.\n\n"{unknown[0]}" is not a permitted key.')
        changed: StoredHook = {**hook, "active": _flag(body.get("active", hook["active"]))}
        if "events" in body:
            changed["events"] = _events(body["events"])
        added = _events(body["add_events"]) if "add_events" in body else []
        removed = texts(body.get("remove_events"))
        changed["events"] = [event for event in dict.fromkeys([*changed["events"], *added]) if event not in removed]
        if "config" in body:
            changed["config"] = hook_config(body["config"])  # the whole of it: a secret that is not mentioned is gone
        return self._store(call, target, hook, changed)

    def _store(self, call: Call, target: HookOwner, hook: StoredHook, changed: StoredHook, *, config: bool = False) -> Reply:
        self._check(target, changed)
        with self.app.changing(target.key, self.app.hooks_of(target)):
            hook.update({**changed, "updated_at": shapes.stamp(self.app.clock())})
        return Reply(200, shapes.config(hook["config"]) if config else self._shown(call, target, hook))

    def _delete(self, call: Call, **where: str) -> Reply:
        target, hook = self.app.hook_named(call, where, write=True)
        with self.app.changing(target.key, self.app.hooks_of(target)) as hooks:
            hooks.remove(hook)
        return Reply(204)

    def _get_config(self, call: Call, **where: str) -> Reply:
        _, hook = self.app.hook_named(call, where, write=False)
        return Reply(200, shapes.config(hook["config"]))

    def _patch_config(self, call: Call, **where: str) -> Reply:
        target, hook = self.app.hook_named(call, where, write=True)
        return self._store(call, target, hook, {**hook, "config": hook_config({**hook["config"], **body_of(call)})}, config=True)

    def _check(self, target: HookOwner, hook: StoredHook) -> None:
        """Refuse a double, and a 21st hook for an event."""
        others = [row for row in self.app.hooks_of(target) if row["id"] != hook["id"]]
        same = [
            row
            for row in others
            if row["config"].get("url") == hook["config"]["url"] and set(row["events"]) == set(hook["events"])
        ]
        if same and not self.app.settings["accept_duplicates"]:
            raise invalid(
                code="custom", message=f"Hook already exists on this {'organization' if target.organization else 'repository'}"
            )
        for event in hook["events"]:
            if sum(1 for row in others if event in row["events"]) >= MAX_PER_EVENT:
                raise invalid(code="custom", message=f'The "{event}" event cannot have more than {MAX_PER_EVENT} hooks')

    def _url(self, call: Call, target: HookOwner, hook: StoredHook) -> str:
        return f"{call.base_url}{target.path}/hooks/{hook['id']}"

    def _shown(self, call: Call, target: HookOwner, hook: StoredHook) -> dict[str, object]:
        return shapes.hook(self._url(call, target, hook), hook, organization=target.organization)

    # events about a hook

    def _ping_payload(self, call: Call, target: HookOwner, hook: StoredHook) -> dict[str, object]:
        payload: dict[str, object] = {
            "zen": "Keep it logically awesome.",
            "hook_id": hook["id"],
            "hook": self._shown(call, target, hook),
        }
        if not target.organization:
            payload["repository"] = self.app.shown(call.base_url, target.name)
        return payload

    def _ping(self, call: Call, **where: str) -> Reply:
        target, hook = self.app.hook_named(call, where, write=False)  # reading is enough: the hook does not change
        self._deliveries.send(hook, "ping", self._ping_payload(call, target, hook))
        return Reply(204)

    def _test(self, call: Call, **where: str) -> Reply:
        target, hook = self.app.hook_named(call, where, write=False)  # reading is enough: the hook does not change
        if "push" in hook["events"] or "*" in hook["events"]:
            repo = self.app.shown(call.base_url, target.name)
            sha = hashlib.sha256(str(self.app.next_id()).encode()).hexdigest()[:40]
            payload = shapes.push(repo, self.app.user("sandbox-bot"), shapes.Push(f"refs/heads/{repo['default_branch']}", sha))
            self._deliveries.send(hook, "push", payload)
        return Reply(204)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise invalid("Invalid request.\n\nFor 'properties/active', it is not a boolean.")
    return value


def _events(value: object) -> list[str]:
    if not value or not fits(value, list[Text]):
        raise invalid(code="custom", field="events", message="events must be a list of event names")
    events = texts(value)
    unknown = [event for event in events if event != "*" and not event.replace("_", "").isalnum()]
    if unknown:
        raise invalid(code="custom", message=f"These events are not allowed for this hook: {', '.join(unknown)}")
    return list(dict.fromkeys(events))


def hook_config(value: object) -> dict[str, str]:
    """Return a config with GitHub's defaults: a form unless it requests JSON."""
    if not is_object(value):
        raise invalid('Invalid request.\n\n"config" wasn\'t supplied.')
    url = value.get("url")
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or any(c.isspace() for c in str(url)):
        raise invalid(
            code="custom", message="The URL you've entered is not valid. Please make sure it is a valid HTTP URL.", field="url"
        )
    kind = value.get("content_type", "form")
    insecure = str(value.get("insecure_ssl", "0"))
    if kind not in ("json", "form"):
        raise invalid(code="custom", field="content_type", message="content_type must be json or form")
    if insecure not in ("0", "1"):
        raise invalid(code="custom", field="insecure_ssl", message="insecure_ssl must be 0 or 1")
    kept = {key: field for key, field in value.items() if key in _CONFIG_FIELDS and field not in (None, "")}
    for key in sorted({"secret", "username", "password"} & set(kept)):
        if not isinstance(kept[key], str):
            raise invalid(f"Invalid request.\n\nFor 'properties/{key}', {kept[key]!r} is not a string.")
    fields = {key: str(field) for key, field in kept.items()}
    return {**fields, "url": str(url), "content_type": str(kind), "insecure_ssl": insecure}
