"""Deliveries of the GitHub simulator: sent events, their outcome, and losses on demand.

As at GitHub: one GUID for all hooks that an event goes to and for its redeliveries, no second try by itself, newest first, cursor
pages (docs: webhooks/using-webhooks). A delivery that is still on its way is not listed.
"""

from __future__ import annotations

import asyncio
import http.client
import random
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler.sandbox.app import Call, Reply, Route
from reconciler.sandbox.github import shapes as shapes
from reconciler.sandbox.github.delivery import post, signed
from reconciler.sandbox.github.records import StoredApp, StoredDelivery, StoredHook, StoredInstallation
from reconciler.sandbox.github.request import refuse
from reconciler.sandbox.github.state import GitHubState
from reconciler.sandbox.shapes import is_object, json_object, number, texts, whole

DEFAULTS: Mapping[str, object] = {
    "drop_deliveries": 0.0,  # a fraction, or a list of events: listed as failed, never sent
    "duplicate_deliveries": False,  # each is sent twice, with one GUID
    "shuffle_deliveries_s": 0.0,  # each waits for a random part of this, so that their order changes
    "delivery_seed": 1,  # of the two settings above: the same seed, the same losses
    "kept_deliveries": 5000,  # of a hook
    "deliver_to": {},  # what URLs of hooks begin with → the address behind that proxy, to which their deliveries are sent
}
_ON_ITS_WAY = "pending"
_WORDS = {502: "failed to connect to host", 504: "timed out"}


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One sending: to which hook, as which row of the list, with which bytes."""

    hook: StoredHook
    row: StoredDelivery
    content: bytes
    headers: Mapping[str, str]


class HookDeliveries:
    """Sends events to hooks, and handles everything below ``…/hooks/ID/deliveries``."""

    def __init__(self, app: GitHubState) -> None:
        self.app = app
        self._tasks: set[asyncio.Task[None]] = set()
        self._random = random.Random()  # noqa: S311 - losses on demand
        self._seed: object = None

    def routes(self, prefix: str) -> Iterable[Route]:
        """Return the routes below ``prefix``: a repository by name, by id, or an organization."""
        path = f"{prefix}/hooks/{{hook_id}}/deliveries"
        yield from (
            ("GET", path, self._list),
            ("GET", f"{path}/{{delivery_id}}", self._get),
            ("POST", f"{path}/{{delivery_id}}/attempts", self._attempt),
        )

    # answers

    def _list(self, call: Call, **where: str) -> Reply:
        return self.listed(call, self.app.hook_named(call, where, write=False)[1])

    def _get(self, call: Call, **where: str) -> Reply:
        return self.shown(self.app.hook_named(call, where, write=False)[1], where["delivery_id"])

    def _attempt(self, call: Call, **where: str) -> Reply:
        return self.repeat(self.app.hook_named(call, where, write=True)[1], where["delivery_id"])

    def listed(self, call: Call, hook: StoredHook) -> Reply:
        """Answer a page of a hook's deliveries."""
        rows = [row for row in reversed(self._of(hook)) if row["status"] != _ON_ITS_WAY]
        outcome = call.query.get("status", "")
        if outcome:
            rows = [row for row in rows if (200 <= row["status_code"] < 400) == (outcome == "success")]
        cursor = call.query.get("cursor", "")
        if cursor:
            if not cursor.removeprefix("v1_").isdigit():
                raise refuse(422, "Invalid cursor")
            rows = [row for row in rows if row["id"] <= int(cursor.removeprefix("v1_"))]
        given = call.query.get("per_page", "")
        size = max(1, min(100, int(given) if given.isdigit() else 30))
        following = f"per_page={size}&cursor=v1_{rows[size]['id']}" if len(rows) > size else ""
        kept = f"status={outcome}&" if outcome else ""
        link = {"link": f'<{call.base_url}{call.path}?{kept}{following}>; rel="next"'} if following else {}
        return Reply(200, [shapes.delivery(row, whole=False) for row in rows[:size]], link)

    def shown(self, hook: StoredHook, delivery_id: str) -> Reply:
        """Answer one delivery of a hook, whole."""
        return Reply(200, shapes.delivery(self._one(hook, delivery_id), whole=True))

    def repeat(self, hook: StoredHook, delivery_id: str) -> Reply:
        """Send a delivery of a hook once more."""
        row = self._one(hook, delivery_id)
        self.send(hook, row["event"], row["request"]["payload"], guid=row["guid"], again=True)
        return Reply(202, {})

    def _of(self, hook: StoredHook) -> list[StoredDelivery]:
        return self.app.records["deliveries"].setdefault(str(hook["id"]), [])

    def _one(self, hook: StoredHook, delivery_id: str) -> StoredDelivery:
        row = next((item for item in self._of(hook) if str(item["id"]) == delivery_id), None)
        if row is None:
            raise refuse(404, "Not Found")
        return row

    # events

    def emit(self, options: Mapping[str, object]) -> dict[str, object]:
        """Send an event to every active hook of a repository (and of its organization) and every App that subscribes to it."""
        event, payload = str(options["event"]), json_object(options.get("payload"))
        if "repository" in options:
            return self.publish(str(options["repository"]), event, payload)
        organization = str(options["organization"])
        return self._spread([f"orgs/{organization}"], self.app.subscribed(event, organization), event, payload)

    def publish(self, name: str, event: str, payload: Mapping[str, object], *, sender: str = "sandbox-bot") -> dict[str, object]:
        """Send an event of a repository; it gets the keys that every payload has: repository, organization, sender."""
        owner = name.partition("/")[0]
        repository = shapes.in_payload(self.app.shown(self.app.base_url, name))
        complete: dict[str, object] = {"repository": repository, "sender": self.app.user(sender), **payload}
        if owner in self.app.records["orgs"]:
            complete.setdefault(
                "organization", shapes.organization(self.app.base_url, owner, self.app.records["orgs"][owner]["id"])
            )
        number = self.app.records["repos"][name]["id"]
        keys = [f"repos/{number}", f"orgs/{owner}"]
        return self._spread(keys, self.app.subscribed(event, owner, name), event, complete)

    def _spread(
        self,
        keys: Iterable[str],
        apps: Iterable[tuple[StoredApp, StoredInstallation]],
        event: str,
        payload: Mapping[str, object],
    ) -> dict[str, object]:
        """Send one event, with one GUID, to hooks and Apps; those of Apps name the installation."""
        guid = str(uuid.uuid4())
        rows = [
            self.send(hook, event, payload, guid=guid)
            for key in keys
            for hook in self.app.records["hooks"].get(key, ())
            if hook["active"] and {event, "*"} & set(hook["events"])
        ]
        for app, installation in apps:
            short = {"id": installation["id"], "node_id": f"I_{installation['id']}"}
            rows.append(self.send(app["hook"], event, {**payload, "installation": short}, guid=guid))
        return {"deliveries": [row["id"] for row in rows]}

    def send(
        self,
        hook: StoredHook,
        event: str,
        payload: Mapping[str, object],
        *,
        guid: str = "",
        again: bool = False,
    ) -> StoredDelivery:
        """Record a delivery and return its row; with the setting ``deliver`` it is sent over HTTP.

        ``again``: it redelivers the event with this ``guid``.
        """
        guid = guid or str(uuid.uuid4())
        content, headers = signed(hook, event, payload, guid)
        headers |= self._target_headers(hook)
        repository, installation = payload.get("repository"), payload.get("installation")
        row: StoredDelivery = {
            "id": self.app.next_id(),
            "guid": guid,
            "delivered_at": shapes.stamp(self.app.clock()),
            "redelivery": again,
            "duration": 0.01,
            "status": "OK",
            "status_code": 200,
            "event": event,
            "action": payload.get("action"),
            "installation_id": whole(installation["id"]) if is_object(installation) else None,
            "repository_id": repository.get("id") if is_object(repository) else None,
            "throttled_at": None,
            "url": hook["config"]["url"],
            "request": {"headers": headers, "payload": dict(payload)},
            "response": {"headers": {}, "payload": ""},
        }
        rows = self._of(hook)
        rows.append(row)
        del rows[: -max(1, int(self.app.number("kept_deliveries")))]
        self._dispatch(_Attempt(hook, row, content, headers))
        return row

    def _target_headers(self, hook: StoredHook) -> dict[str, str]:
        app = next((app for app in self.app.records["apps"].values() if app["hook"] is hook), None)
        if app is not None:
            return {
                "X-GitHub-Hook-Installation-Target-Type": "integration",
                "X-GitHub-Hook-Installation-Target-ID": str(app["id"]),
            }
        key = next((key for key, hooks in self.app.records["hooks"].items() if any(row is hook for row in hooks)), "")
        kind, _, name = key.partition("/")
        number = self.app.records["orgs"][name]["id"] if kind == "orgs" else name
        return {
            "X-GitHub-Hook-Installation-Target-Type": "organization" if kind == "orgs" else "repository",
            "X-GitHub-Hook-Installation-Target-ID": str(number),
        }

    def _dispatch(self, attempt: _Attempt) -> None:
        settings = self.app.settings
        if settings["delivery_seed"] != self._seed:
            self._seed = settings["delivery_seed"]
            self._random.seed(whole(self._seed))
        if self._drops(attempt.row["event"]):
            self._settle(attempt, 502, "")
        elif settings["deliver"]:
            attempt.row.update({"status": _ON_ITS_WAY, "status_code": 0})
            for _ in range(2 if settings["duplicate_deliveries"] else 1):
                wait_s = self._random.uniform(0.0, self.app.number("shuffle_deliveries_s"))
                task = asyncio.get_running_loop().create_task(self._post(attempt, wait_s))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _drops(self, event: str) -> bool:
        dropped = self.app.settings["drop_deliveries"]
        return event in texts(dropped) if isinstance(dropped, list) else self._random.random() < number(dropped)

    async def _post(self, attempt: _Attempt, wait_s: float) -> None:
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        started = self.app.clock()
        insecure = attempt.hook["config"].get("insecure_ssl") == "1"
        url = self._address(attempt.row["url"])
        try:
            status, text = await asyncio.to_thread(post, url, attempt.content, attempt.headers, insecure=insecure)
        except (OSError, http.client.HTTPException) as error:
            status, text = 504 if isinstance(error, TimeoutError) else 502, ""
        attempt.row["duration"] = round(self.app.clock() - started, 3)
        self._settle(attempt, status, text)

    def _address(self, url: str) -> str:
        """Return where a delivery to ``url`` is sent: a sandbox cannot reach the public address of a receiver."""
        for public, private in json_object(self.app.settings["deliver_to"]).items():
            if url.startswith(f"{public}/"):
                return f"{private}{url.removeprefix(public)}"
        return url

    def _settle(self, attempt: _Attempt, status: int, text: str) -> None:
        ok = 200 <= status < 300
        word = "OK" if ok else _WORDS.get(status, f"Invalid HTTP Response: {status}")
        attempt.row.update({"status_code": status, "status": word, "delivered_at": shapes.stamp(self.app.clock())})
        attempt.row["response"] = {"headers": {}, "payload": text}
        attempt.hook["last_response"] = {"code": status, "status": "active" if ok else "misconfigured", "message": word}
