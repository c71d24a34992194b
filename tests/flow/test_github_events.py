"""GitHub's own example payloads, one of every event type, signed and sent to the real daemon."""

import json
import re
import time
from pathlib import Path
from typing import Any

from tests.flow.stage_world import StageWorld, signed

EXAMPLES: dict[str, Any] = json.loads((Path(__file__).parents[1] / "contracts" / "github.events.json").read_text())
OF_THE_HOOK = {"ping", "meta"}
SAID_AGAIN = {
    *(
        "create",
        "delete",
        "github_app_authorization",
        "installation",
        "installation_repositories",
        "label",
        "marketplace_purchase",
    ),
    *("member", "membership", "meta", "org_block", "organization", "ping", "public", "pull_request_review_thread", "repository"),
    *("repository_dispatch", "repository_import", "repository_vulnerability_alert", "sponsorship", "team", "team_add", "watch"),
    "workflow_dispatch",
}
"""Events that may happen twice in the same words."""
WHEN = re.compile(r'"(19|20)\d\d-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)"|(?<="pushed_at":)\d{10}')


def test_every_example_of_github_is_taken_and_what_it_tells_of_today_has_its_effect(world: StageWorld) -> None:
    world.source("web", events='[{type: "*"}]')
    world.stage("all", "concurrency: 50\nexecutor: {type: noop}", after="{type: event-source, name: web}")
    world.ready()
    path, key, _ = world.place("web")

    def deliver(name: str, text: str, delivery: str) -> int:
        body = text.encode()
        return world.post(
            path,
            body,
            {**signed(key, body, "x-hub-signature-256"), "x-github-event": name, "x-github-delivery": delivery},
        )[0]

    now = time.strftime('"%Y-%m-%dT%H:%M:%SZ"', time.gmtime())
    today = {
        name: WHEN.sub(
            lambda found: now if found.group().startswith('"') else str(int(time.time())), json.dumps(one, separators=(",", ":"))
        )
        for name, one in EXAMPLES.items()
    }
    assert len(EXAMPLES) == 58
    assert {name: deliver(name, json.dumps(one), f"old-{name}") for name, one in EXAMPLES.items()} == dict.fromkeys(EXAMPLES, 202)
    assert {name: deliver(name, today[name], f"new-{name}") for name in EXAMPLES} == dict.fromkeys(EXAMPLES, 202)

    def events() -> dict[str, Any]:
        found = world.ask("events", source="EventSource/web", limit=1000)["events"]
        return {one["deliveryId"]: one for one in found if one["deliveryId"].partition("-")[0] in {"old", "new"}}

    world.wait(lambda: len(events()) == 2 * len(EXAMPLES) and all(one["state"] != "pending" for one in events().values()), "all")
    for name in EXAMPLES:
        new, old = events()[f"new-{name}"], events()[f"old-{name}"]
        same = json.loads(today[name]) == EXAMPLES[name] and name not in SAID_AGAIN
        wanted_of_new = (name, "rejected", "duplicate") if same else (name, "processed", name if name in OF_THE_HOOK else "")
        assert (new["type"], new["state"], new["reason"]) == wanted_of_new, new
        # E4: what happened longer ago than the inbox remembers has no effect, where the payload tells when that was.
        assert old["state"] == "processed" or old["reason"] == "stale", old
    wanted = sum(
        1 for one in events().values() if one["state"] == "processed" and one["deliveryId"].split("-", 1)[1] not in OF_THE_HOOK
    )
    assert wanted > len(EXAMPLES) - len(OF_THE_HOOK)
    done = world.finished("all", wanted)
    assert {one["result"] for one in done} == {"passed"}
    assert len(world.executions("all")) == wanted
