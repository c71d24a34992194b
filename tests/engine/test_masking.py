"""Objects that are not ours: nothing of them that could be a credential is kept, planned, shown or exported."""

from __future__ import annotations

import httpx
import pytest

from reconciler.engine.masking import Mask, hidden_by, is_hidden
from tests.engine.world import TOKENS, World

CANARY = "canary-5e1f7c"
DISCORD = f"https://discord.example/api/webhooks/1234/{CANARY}"
SLACK = f"https://user:{CANARY}@hooks.slack.example:8443/services/T0/B0/{CANARY}?token={CANARY}#{CANARY}"


def veil(**options: object) -> Mask:
    return Mask(hidden_by(lambda _: "0123456789abcdef"), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"config": {"url": DISCORD}}, {"config": {"url": "https://discord.example/(hidden:0123456789abcdef)"}}),
        ({"target_url": SLACK}, {"target_url": "https://hooks.slack.example:8443/(hidden:0123456789abcdef)"}),
        ({"endpoint": f"discord.example/{CANARY}"}, {"endpoint": "(hidden:0123456789abcdef)"}),
        ({"endpoint": f"https://[{CANARY}"}, {"endpoint": "(hidden:0123456789abcdef)"}),
        ({"slack": {"message": CANARY, "channels": [CANARY]}}, {"slack": {"message": "(hidden:0123456789abcdef)", "channels": ["(hidden:0123456789abcdef)"]}}),
        ({"name": f"see {DISCORD} now"}, {"name": "see https://discord.example/(hidden:0123456789abcdef) now"}),
        ({"host_url": "https://git.acme.example/"}, {"host_url": "https://git.acme.example/"}),
        ({"events": ["push"], "active": True, "n": 1, "url": ""}, {"events": ["push"], "active": True, "n": 1, "url": ""}),
    ],
)  # fmt: skip
def test_n11_of_a_url_scheme_and_host_are_left(value: object, shown: object) -> None:
    assert veil().value(value) == shown
    assert veil().value(shown) == shown
    assert is_hidden(shown) == ("hidden" in str(shown))


def test_n11_what_we_declared_or_marked_is_shown() -> None:
    ours = {"url": "https://hooks.example/hooks/team/0123?key=k", "host_url": DISCORD}
    assert veil(owner="team", own=frozenset({DISCORD})).value(ours) == ours
    assert is_hidden(veil(owner="other").value(ours))


def foreign(number: int, url: str) -> dict[str, object]:
    return {"id": number, "name": "web", "active": True, "events": ["push"], "config": {"url": url, "content_type": "json"}}


def at(world: World, provider: str, scheme: str, path: str, body: dict[str, object]) -> None:
    """Make an object as somebody else."""
    headers = {"authorization": f"{scheme} {TOKENS[provider]}"}
    answer = httpx.post(world.servers[provider].url + path, json=body, headers=headers, trust_env=False)
    assert answer.status_code < 300, answer.text


def everything(world: World) -> bytes:
    """All bytes that the program left behind: state, write-ahead log, engine, status file, log of the daemon."""
    return (
        b"".join(path.read_bytes() for path in sorted(world.folder.joinpath("state").rglob("*")) if path.is_file())
        + world.log().encode()
    )


def test_n11_a_foreign_hook_leaves_no_credential_in_the_state_or_any_output(world: World) -> None:
    world.set_hooks("one", [foreign(999, DISCORD), foreign(998, SLACK)])
    world.source("one")
    said = ""
    for verb, *arguments in (
        ("plan",), ("plan", "-o", "json"), ("plan", "-o", "markdown"), ("run", "--once"), ("plan", "-o", "json"), ("status", "-o", "json"),
        ("drift", "-o", "json"), ("export", "github", "--scope", "acme/one"),
    ):  # fmt: skip
        done = world.cli(verb, *arguments)
        said += done.stdout + done.stderr
    assert len(world.hooks("one")) == 3
    assert "https://discord.example" in said
    assert "sends to https://hooks.slack.example:8443 today" in said
    assert CANARY not in said
    assert CANARY.encode() not in everything(world)


def test_n11_an_adoption_shows_the_host_that_it_takes_over_and_no_more(world: World) -> None:
    world.set_hooks("one", [foreign(999, DISCORD)])
    world.source("one", more="  lifecycle: {adopt: always, externalId: '999'}\n")
    said = ""
    for arguments in (("plan",), ("plan", "-o", "json"), ("plan", "-o", "markdown"), ("plan", "-o", "sarif")):
        said += world.cli(*arguments).stdout
    assert "https://discord.example/(hidden:" in said
    said += (done := world.cli("apply", "--yes")).stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert [hook["id"] for hook in world.hooks("one")] == [999]
    assert "hooks.example" in world.hooks("one")[0]["config"]["url"]
    assert CANARY not in said
    assert CANARY.encode() not in everything(world)


def test_n11_an_ignored_url_of_an_adopted_hook_is_written_back_whole(world: World) -> None:
    world.set_hooks("one", [foreign(999, DISCORD)])
    lifecycle = "{adopt: always, externalId: '999', ignore: [{path: /config/url}]}"
    world.source("one", events="[{type: push}, {type: release}]", more=f"  lifecycle: {lifecycle}\n")
    done = world.cli("apply", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    (hook,) = world.hooks("one")
    assert hook["config"]["url"] == DISCORD
    assert sorted(hook["events"]) == ["push", "release"]
    assert CANARY not in done.stdout + done.stderr
    assert CANARY.encode() not in everything(world)


def test_n11_an_edit_of_our_own_hook_shows_the_host_that_it_was_sent_to(world: World) -> None:
    world.source("one")
    assert world.cli("apply", "--yes").returncode == 0
    (hook,) = world.hooks("one")
    world.set_hooks("one", [{**hook, "config": {**hook["config"], "url": DISCORD}}])
    said = world.cli("plan", "-o", "json").stdout
    assert "https://discord.example/(hidden:" in said
    world.cli("run", "--once")
    assert "hooks.example" in world.hooks("one")[0]["config"]["url"]
    assert CANARY not in said
    assert CANARY.encode() not in everything(world)


def test_n11_foreign_objects_of_semaphore_and_buddy_leave_no_credential(wide: World) -> None:
    targets = {
        "webhook": {"endpoint": DISCORD, "secret": "", "timeout": 500, "action": "", "retries": 0, "status": "ACTIVE"},
        "slack": {"endpoint": SLACK, "channels": [CANARY], "message": f"call {CANARY}", "status": "ACTIVE"},
        "email": {"subject": CANARY, "cc": [f"{CANARY}@x.example"], "bcc": [], "content": CANARY, "status": "ACTIVE"},
    }
    rules = [{"name": "r", "filter": {"projects": ["web"], "results": []}, "notify": targets}] * 2
    body = {"apiVersion": "v1alpha", "kind": "Notification", "metadata": {"name": "legacy"}, "spec": {"rules": rules}}
    at(wide, "semaphore", "Token", "/api/v1alpha/notifications", body)
    at(
        wide,
        "buddy",
        "Bearer",
        "/workspaces/acme/webhooks",
        {"target_url": DISCORD, "events": ["PUSH"], "projects": [], "secret_key": CANARY},
    )
    made = {"type": "DOCKER_HUB", "name": "hub", "identifier": "hub", "username": "u", "password": CANARY, "host_url": DISCORD}
    at(wide, "buddy", "Bearer", "/workspaces/acme/integrations", made)
    for name, target in (("semaphore", "{type: project, name: web}"), ("buddy", "{type: project, name: web}")):
        wide.write(
            f"source-{name}.yaml",
            f"kind: EventSource\nmetadata: {{name: {name}}}\nspec:\n  integration: {{name: {name}}}\n  resource: {target}\n",
        )
    wide.write(
        "mine.yaml",
        "kind: BuddyIntegration\nmetadata: {name: mine}\nspec:\n  integration: {name: buddy}\n  workspace: acme\n  type: GIT_LAB\n"
        "  scope: WORKSPACE\n  name: mine\n  token: {valueFrom: {secret: {name: buddy, key: token}}}\n",
    )
    said = ""
    for verb, *arguments in (
        ("plan", "-o", "json"), ("run", "--once"), ("status", "-o", "json"), ("export", "semaphore"), ("export", "buddy", "--scope", "acme"),
    ):  # fmt: skip
        done = wide.cli(verb, *arguments)
        said += done.stdout + done.stderr
    assert "legacy" in said
    assert "identifier: hub" in said
    assert CANARY not in said
    assert CANARY.encode() not in everything(wide)
