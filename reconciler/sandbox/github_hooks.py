"""Hooks of the GitHub simulator, on repositories and organizations, with their deliveries."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from reconciler.sandbox import github_shapes as shapes
from reconciler.sandbox.base import Call, Refusal, Reply, Route
from reconciler.sandbox.github_delivery import post, signed

if TYPE_CHECKING:
    from reconciler.sandbox.github import GitHub, Target

MAX_PER_EVENT = 20
KEPT_DELIVERIES = 200
_FIELDS = frozenset({"name", "config", "events", "active"})
_PATCH_FIELDS = frozenset({"config", "events", "add_events", "remove_events", "active"})
_CONFIG_FIELDS = frozenset({"url", "content_type", "secret", "insecure_ssl", "username", "password"})


def invalid(message: str = "Validation Failed", /, **error: Any) -> Refusal:
    """Return a 422; ``error`` is its one entry of ``errors``."""
    return Refusal(Reply(422, shapes.error(message, 422, [{"resource": "Hook", **error}] if error else None)))


class Hooks:
    """Handlers of everything below ``…/hooks``."""

    def __init__(self, app: GitHub) -> None:
        self.app = app
        self._tasks: set[asyncio.Task[None]] = set()

    def routes(self, prefix: str) -> Iterable[Route]:
        """Return the routes below ``prefix``: a repository by name, by id, or an organization."""
        hooks, one = f"{prefix}/hooks", f"{prefix}/hooks/{{hook_id}}"
        yield from (
            ("GET", hooks, self._list),
            ("POST", hooks, self._create),
            ("GET", one, self._get),
            ("PATCH", one, self._patch),
            ("DELETE", one, self._delete),
            ("GET", f"{one}/config", self._get_config),
            ("PATCH", f"{one}/config", self._patch_config),
            ("POST", f"{one}/pings", self._ping),
            ("GET", f"{one}/deliveries", self._deliveries),
            ("GET", f"{one}/deliveries/{{delivery_id}}", self._delivery),
            ("POST", f"{one}/deliveries/{{delivery_id}}/attempts", self._attempt),
        )
        if "org" not in prefix:
            yield "POST", f"{one}/tests", self._test

    def restored(self) -> None:
        """Fill what a hook that was put from outside leaves out."""
        now = shapes.stamp(self.app.clock())
        for hooks in self.app.state["hooks"].values():
            for hook in hooks:
                hook.setdefault("id", 0)
                hook["id"] = hook["id"] or self.app.next_id()
                for key, value in (
                    ("name", "web"),
                    ("active", True),
                    ("events", ["push"]),
                    ("config", {}),
                    ("created_at", now),
                    ("updated_at", now),
                    ("last_response", {"code": None, "status": "unused", "message": None}),
                ):
                    hook.setdefault(key, value)

    # hooks

    def _list(self, call: Call, **where: str) -> Reply:
        target = self.app.target(call, where, write=False)
        hooks, headers = self.app.page(call, self.app.lagged(target.key, self._of(target)), f"{target.link_path}/hooks")
        return Reply(200, [self._shown(call, target, hook) for hook in hooks], headers)

    def _get(self, call: Call, **where: str) -> Reply:
        target, hook = self._find(call, where, write=False)
        return Reply(200, self._shown(call, target, hook))

    def _create(self, call: Call, **where: str) -> Reply:
        target = self.app.target(call, where, write=True)
        body = _body(call)
        unknown = sorted(set(body) - _FIELDS)
        if unknown:
            raise invalid(f'Invalid request.\n\n"{unknown[0]}" is not a permitted key.')
        if body.get("name", "web") != "web":
            raise invalid(code="invalid", field="name")
        now = shapes.stamp(self.app.clock())
        hook = {
            "id": 0,
            "name": "web",
            "active": _flag(body.get("active", True)),
            "events": _events(body.get("events", ["push"])),
            "config": _config(body.get("config")),
            "created_at": now,
            "updated_at": now,
            "last_response": {"code": None, "status": "unused", "message": None},
        }
        self._check(target, hook)
        hook["id"] = self.app.next_id()
        with self.app.changing(target.key, self._of(target)) as hooks:
            hooks.append(hook)
        self._send(target, hook, "ping", self._ping_payload(call, target, hook))
        return Reply(201, self._shown(call, target, hook), {"location": self._url(call, target, hook)})

    def _patch(self, call: Call, **where: str) -> Reply:
        target, hook = self._find(call, where, write=True)
        body = _body(call)
        unknown = sorted(set(body) - _PATCH_FIELDS - {"name"})
        if unknown:
            raise invalid(f'Invalid request.\n\n"{unknown[0]}" is not a permitted key.')
        changed = {**hook, "active": _flag(body.get("active", hook["active"]))}
        if "events" in body:
            changed["events"] = _events(body["events"])
        added, removed = _events(body.get("add_events", ["push"])) if "add_events" in body else [], body.get("remove_events", [])
        changed["events"] = [event for event in dict.fromkeys([*changed["events"], *added]) if event not in removed]
        if "config" in body:
            changed["config"] = _config(body["config"])  # the whole of it: a secret that is not mentioned is gone
        return self._store(call, target, hook, changed)

    def _store(self, call: Call, target: Target, hook: dict[str, Any], changed: dict[str, Any], *, config: bool = False) -> Reply:
        self._check(target, changed)
        with self.app.changing(target.key, self._of(target)):
            hook.update(changed, updated_at=shapes.stamp(self.app.clock()))
        return Reply(200, shapes.config(hook["config"]) if config else self._shown(call, target, hook))

    def _delete(self, call: Call, **where: str) -> Reply:
        target, hook = self._find(call, where, write=True)
        with self.app.changing(target.key, self._of(target)) as hooks:
            hooks.remove(hook)
        return Reply(204)

    def _get_config(self, call: Call, **where: str) -> Reply:
        _, hook = self._find(call, where, write=False)
        return Reply(200, shapes.config(hook["config"]))

    def _patch_config(self, call: Call, **where: str) -> Reply:
        target, hook = self._find(call, where, write=True)
        return self._store(call, target, hook, {**hook, "config": _config({**hook["config"], **_body(call)})}, config=True)

    def _of(self, target: Target) -> list[dict[str, Any]]:
        hooks: list[dict[str, Any]] = self.app.state["hooks"].setdefault(target.key, [])
        return hooks

    def _find(self, call: Call, where: Mapping[str, str], *, write: bool) -> tuple[Target, dict[str, Any]]:
        target = self.app.target(call, where, write=write)
        hook = next((one for one in self._of(target) if str(one["id"]) == where["hook_id"]), None)
        if hook is None:
            raise Refusal(Reply(404, shapes.error("Not Found", 404)))
        return target, hook

    def _check(self, target: Target, hook: Mapping[str, Any]) -> None:
        """Refuse a double, and a 21st hook for an event."""
        others = [one for one in self._of(target) if one["id"] != hook["id"]]
        same = [
            one
            for one in others
            if one["config"].get("url") == hook["config"]["url"] and set(one["events"]) == set(hook["events"])
        ]
        if same and not self.app.settings["accept_duplicates"]:
            raise invalid(
                code="custom", message=f"Hook already exists on this {'organization' if target.organization else 'repository'}"
            )
        for event in hook["events"]:
            if sum(1 for one in others if event in one["events"]) >= MAX_PER_EVENT:
                raise invalid(code="custom", message=f'The "{event}" event cannot have more than {MAX_PER_EVENT} hooks')

    def _url(self, call: Call, target: Target, hook: Mapping[str, Any]) -> str:
        return f"{call.base_url}{target.path}/hooks/{hook['id']}"

    def _shown(self, call: Call, target: Target, hook: Mapping[str, Any]) -> dict[str, Any]:
        return shapes.hook(self._url(call, target, hook), hook, organization=target.organization)

    # deliveries

    def _ping_payload(self, call: Call, target: Target, hook: Mapping[str, Any]) -> dict[str, Any]:
        payload = {"zen": "Keep it logically awesome.", "hook_id": hook["id"], "hook": self._shown(call, target, hook)}
        if not target.organization:
            payload["repository"] = self.app.shown(call.base_url, target.name)
        return payload

    def _ping(self, call: Call, **where: str) -> Reply:
        target, hook = self._find(call, where, write=True)
        self._send(target, hook, "ping", self._ping_payload(call, target, hook))
        return Reply(204)

    def _test(self, call: Call, **where: str) -> Reply:
        target, hook = self._find(call, where, write=True)
        if "push" in hook["events"] or "*" in hook["events"]:
            sha = hashlib.sha256(str(self.app.next_id()).encode()).hexdigest()[:40]
            sender = shapes.user(call.base_url, "sandbox-bot", 2)
            self._send(target, hook, "push", shapes.push(self.app.shown(call.base_url, target.name), sender, sha))
        return Reply(204)

    def _deliveries(self, call: Call, **where: str) -> Reply:
        _, hook = self._find(call, where, write=False)
        rows = list(reversed(self.app.state["deliveries"].get(str(hook["id"]), [])))
        cursor = call.query.get("cursor", "")
        if cursor:
            if not cursor.removeprefix("v1_").isdigit():
                raise Refusal(Reply(422, shapes.error("Invalid cursor", 422)))
            rows = [row for row in rows if row["id"] <= int(cursor.removeprefix("v1_"))]
        given = call.query.get("per_page", "")
        size = max(1, min(100, int(given) if given.isdigit() else 30))
        link = (
            f'<{call.base_url}{call.path}?per_page={size}&cursor=v1_{rows[size]["id"]}>; rel="next"' if len(rows) > size else ""
        )
        return Reply(200, [shapes.delivery(row, whole=False) for row in rows[:size]], {"link": link} if link else {})

    def _delivery(self, call: Call, **where: str) -> Reply:
        _, hook = self._find(call, where, write=False)
        return Reply(200, shapes.delivery(self._one(hook, where["delivery_id"]), whole=True))

    def _attempt(self, call: Call, **where: str) -> Reply:
        target, hook = self._find(call, where, write=True)
        row = self._one(hook, where["delivery_id"])
        self._send(target, hook, row["event"], row["request"]["payload"], again=row)
        return Reply(202, {})

    def _one(self, hook: Mapping[str, Any], delivery_id: str) -> dict[str, Any]:
        rows: list[dict[str, Any]] = self.app.state["deliveries"].get(str(hook["id"]), [])
        row = next((one for one in rows if str(one["id"]) == delivery_id), None)
        if row is None:
            raise Refusal(Reply(404, shapes.error("Not Found", 404)))
        return row

    def emit(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Send an event to every active hook of a repository (and of its organization) that wants it."""
        event, payload = str(options["event"]), dict(options.get("payload", {}))
        keys = [f"orgs/{options['organization']}"] if "organization" in options else []
        if "repository" in options:
            name = str(options["repository"])
            keys += [f"repos/{self.app.state['repos'][name]['id']}", f"orgs/{name.partition('/')[0]}"]
            payload.setdefault("repository", self.app.shown("http://sandbox", name))
        rows = []
        for key in keys:
            number = int(key.removeprefix("repos/")) if key.startswith("repos/") else None
            for hook in self.app.state["hooks"].get(key, ()):
                if hook["active"] and {event, "*"} & set(hook["events"]):
                    rows.append(self._deliver(hook, event, payload, repository_id=number))
        return {"deliveries": [row["id"] for row in rows]}

    def _send(
        self,
        target: Target,
        hook: dict[str, Any],
        event: str,
        payload: Mapping[str, Any],
        *,
        again: Mapping[str, Any] | None = None,
    ) -> None:
        self._deliver(hook, event, payload, repository_id=target.repository_id, again=again)

    def _deliver(
        self,
        hook: dict[str, Any],
        event: str,
        payload: Mapping[str, Any],
        *,
        repository_id: int | None,
        again: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Keep a delivery; send it over HTTP where the setting ``deliver`` is on."""
        guid = str(again["guid"]) if again is not None else str(uuid.uuid4())
        content, headers = signed(hook, event, payload, guid)
        row = {
            "id": self.app.next_id(),
            "guid": guid,
            "delivered_at": shapes.stamp(self.app.clock()),
            "redelivery": again is not None,
            "duration": 0.01,
            "status": "OK",
            "status_code": 200,
            "event": event,
            "action": payload.get("action"),
            "installation_id": None,
            "repository_id": repository_id,
            "throttled_at": None,
            "url": hook["config"]["url"],
            "request": {"headers": headers, "payload": dict(payload)},
            "response": {"headers": {}, "payload": ""},
        }
        rows = self.app.state["deliveries"].setdefault(str(hook["id"]), [])
        rows.append(row)
        del rows[:-KEPT_DELIVERIES]
        if self.app.settings["deliver"]:
            task = asyncio.get_running_loop().create_task(self._post(hook, row, content, headers))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return row

    async def _post(self, hook: dict[str, Any], row: dict[str, Any], content: bytes, headers: Mapping[str, str]) -> None:
        started = self.app.clock()
        try:
            status, text = await asyncio.to_thread(
                post, row["url"], content, headers, insecure=hook["config"].get("insecure_ssl") == "1"
            )
        except (OSError, http.client.HTTPException) as error:
            status, text = (504, "timed out") if isinstance(error, TimeoutError) else (502, "failed to connect to host")
        ok = 200 <= status < 300
        word = (
            "OK" if ok else {504: "timed out", 502: "failed to connect to host"}.get(status, f"Invalid HTTP Response: {status}")
        )
        row.update(status_code=status, status=word, duration=round(self.app.clock() - started, 3))
        row["response"] = {"headers": {}, "payload": text}
        hook["last_response"] = {"code": status, "status": "active" if ok else "misconfigured", "message": word}


def _body(call: Call) -> dict[str, Any]:
    try:
        body = call.json()
    except ValueError:
        raise Refusal(Reply(400, shapes.error("Problems parsing JSON", 400))) from None
    if body is None:
        return {}
    if not isinstance(body, dict):
        raise Refusal(Reply(400, shapes.error("Body should be a JSON object", 400)))
    return body


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise invalid("Invalid request.\n\nFor 'properties/active', it is not a boolean.")
    return value


def _events(value: Any) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) and one for one in value):
        raise invalid(code="custom", field="events", message="events must be a list of event names")
    unknown = [one for one in value if one != "*" and not one.replace("_", "").isalnum()]
    if unknown:
        raise invalid(code="custom", message=f"These events are not allowed for this hook: {', '.join(unknown)}")
    return list(dict.fromkeys(value))


def _config(value: Any) -> dict[str, Any]:
    """Return a config with GitHub's defaults: a form unless JSON is asked for."""
    if not isinstance(value, dict):
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
    kept = {key: one for key, one in value.items() if key in _CONFIG_FIELDS and one not in (None, "")}
    return {**kept, "url": url, "content_type": kind, "insecure_ssl": insecure}
