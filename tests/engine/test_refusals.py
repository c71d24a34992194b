"""What a provider refuses: only what the manifest alone can fix is final, and its own words stay until it succeeds."""

import json
from typing import Any

import pytest

from tests.engine.world import World

pytestmark = pytest.mark.fault

HTML = "<html><head><title>Request blocked</title></head><body>Incident 7731</body></html>"
LIMIT = {
    "message": "Validation Failed",
    "errors": [{"resource": "Hook", "code": "custom", "message": 'The "push" event cannot have more than 20 hooks'}],
}
VALUES = {"message": "Validation Failed", "errors": [{"resource": "Hook", "code": "invalid", "field": "events"}]}
SURELY_NOT_DONE = [
    (402, {"message": "A paid plan is needed for this"}, "paid plan"),
    (403, {"message": "Resource not accessible by personal access token"}, "not accessible"),
    (409, {"message": "Repository is being changed by somebody else"}, "409"),
    (422, LIMIT, "more than 20 hooks"),
    (422, {"message": "Something nobody has thought of"}, "nobody has thought of"),
    (423, {"message": "Repository is locked"}, "locked"),
    (425, {"message": "Too early"}, "425"),
    (451, {"message": "Repository access blocked"}, "access blocked"),
]
IN_DOUBT = [(408, {"message": "Request timeout"}), (403, HTML), (413, HTML), (422, HTML), (502, HTML)]


def hook_refused(world: World, status: int, body: Any, *, method: str = "POST", times: int = 1, commit: bool = False) -> None:
    world.servers["github"].admin.fault(
        method=method, path="/repos/acme/one/hooks", times=times, status=status, body=body, commit=commit
    )


def words(world: World, name: str = "one") -> str:
    return json.dumps(world.resource("EventSource", name)["conditions"])


@pytest.mark.parametrize(("status", "body", "said"), SURELY_NOT_DONE)
def test_n2_a_refusal_from_outside_of_the_manifest_is_said_and_a_command_tries_again(
    world: World, status: int, body: Any, said: str
) -> None:
    world.source("one")
    hook_refused(world, status, body)
    first = world.cli("run", "--once")
    assert first.returncode in (0, 6), first.stderr
    if first.returncode:
        assert said in words(world)
        assert world.cli("run", "--once").returncode == 0
    assert len(world.hooks("one")) == 1
    assert world.all_ready()


@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize(("status", "body"), IN_DOUBT)
def test_n2_an_answer_to_a_create_that_may_hide_its_success_is_looked_up_and_never_doubled(
    world: World, status: int, body: Any, commit: bool
) -> None:
    world.servers["github"].admin.settings(accept_duplicates=True)
    world.source("one")
    hook_refused(world, status, body, commit=commit)
    assert world.cli("run", "--once").returncode == 0
    assert len(world.hooks("one")) == 1
    assert len(world.requests("github", "POST")) == (1 if commit else 2)


def test_n2_a_daemon_tries_a_limit_again_by_itself_and_its_words_stay_over_passes_and_restarts(world: World) -> None:
    world.source("one")
    taken = [
        {
            "id": 500 + number,
            "name": "web",
            "active": True,
            "events": ["push"],
            "config": {"url": f"https://other.example/{number}", "content_type": "json", "insecure_ssl": "0"},
        }
        for number in range(20)
    ]
    world.set_hooks("one", taken)
    world.daemon()
    world.wait(lambda: len(world.requests("github", "POST")) >= 2, "the daemon tries again")
    passes = world.log().count("pass_finished")
    world.wait(lambda: world.log().count("pass_finished") > passes + 2, "passes without a change")
    assert "cannot have more than 20 hooks" in words(world)
    world.processes[-1].kill()
    world.processes[-1].wait()
    process = world.daemon()
    world.wait(lambda: world.status()["daemon"]["pid"] == process.pid, "the next daemon publishes")
    assert "cannot have more than 20 hooks" in words(world)
    world.set_hooks("one", taken[1:])
    world.wait(world.all_ready, "the slot is taken once it is free")
    assert "more than 20" not in words(world)


def test_n2_a_refused_repair_is_tried_again_and_its_reason_stands_beside_the_drift(world: World) -> None:
    world.source("one")
    assert world.cli("apply", "--yes").returncode == 0
    ours = world.hooks("one")[0]
    world.set_hooks("one", [{**ours, "active": False}])
    world.servers["github"].admin.fault(
        method="PATCH", path="/repos/acme/one/hooks/.*", times=2, status=422, body={"message": "Repository is under maintenance"}
    )
    world.daemon()
    world.wait(lambda: "under maintenance" in (world.condition("EventSource", "one") or {}).get("message", ""), "said on Ready")
    world.wait(lambda: world.hooks("one")[0]["active"] and world.all_ready(), "repaired in the end")


def test_n2_values_that_are_refused_wait_for_the_manifest_and_a_command_still_tries(world: World) -> None:
    world.source("one")
    hook_refused(world, 422, VALUES, times=2)
    assert world.cli("run", "--once").returncode == 6
    process = world.daemon()
    world.wait(lambda: world.log().count("pass_finished") > 1, "passes")
    world.write("note.yaml", "kind: Canvas\nmetadata: {name: extra}\nspec: {}")
    world.wait(lambda: world.status()["summary"]["total"] == 4, "a commit that changes nothing of it")
    assert len(world.requests("github", "POST")) == 1
    assert "events: invalid" in words(world)
    asked = world.cli("reconcile", "EventSource/one", "--wait")
    assert asked.returncode != 0
    assert "events: invalid" in asked.stdout
    assert len(world.requests("github", "POST")) == 2
    assert "events: invalid" in words(world)
    assert world.cli("reconcile", "EventSource/one", "--wait").returncode == 0
    assert len(world.hooks("one")) == 1
    process.terminate()
    process.wait()


@pytest.mark.parametrize("status", [408, 423, 429, 503])
def test_n2_a_delete_that_is_refused_for_a_moment_is_made_in_the_end(world: World, status: int) -> None:
    world.source("one")
    world.source("two")
    assert world.cli("apply", "--yes").returncode == 0
    world.remove("one")
    world.servers["github"].admin.fault(
        method="DELETE", path="/repos/.*", times=1, status=status, body={"message": "not now"}, headers={"retry-after": "1"}
    )
    world.daemon()
    world.wait(lambda: world.hooks("one") == [], "deleted")
    assert len(world.hooks("two")) == 1


@pytest.mark.parametrize("status", [402, 408, 423, 451, 503])
@pytest.mark.parametrize(
    ("provider", "path", "manifest"),
    [
        (
            "semaphore",
            "/api/v1alpha/notifications",
            "kind: EventSource\nmetadata: {name: it}\nspec: {integration: {name: semaphore}, resource: {type: project, name: payments}}",
        ),
        (
            "buddy",
            "/workspaces/acme/webhooks",
            "kind: EventSource\nmetadata: {name: it}\nspec: {integration: {name: buddy}, resource: {type: workspace, name: acme}, "
            "events: [{type: PUSH}]}",
        ),
    ],
)
def test_n2_every_provider_is_asked_again(wide: World, provider: str, path: str, manifest: str, status: int) -> None:
    wide.write("it.yaml", manifest)
    wide.servers[provider].admin.fault(method="POST", path=path, times=1, status=status, body="Service says no")
    done = wide.cli("run", "--once")
    if done.returncode:
        assert str(status) in words(wide, "it")
        assert wide.cli("run", "--once").returncode == 0
    assert wide.condition("EventSource", "it")["status"] == "True"
    rows = wide.servers[provider].admin.requests(path=path, method="POST")
    assert len([row for row in rows if row["status"] < 300]) == 1
