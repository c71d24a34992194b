"""What happens to pull requests in practice: they are run again, retargeted, reopened, edited, and their host fails meanwhile."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flow.test_app_move import APP, INSTALLATION
from tests.reviews.test_reviews import PROTECTED, SHOP
from tests.reviews.world import REPOSITORY, ReviewWorld

STRICT = "{integration: github, interval: 1s, timeout: 3s, forks: off, approvers: [grace]}"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewWorld]:
    """Events alone drive it: the open pull requests are listed, and the branch is fetched, once a minute."""
    world = ReviewWorld(tmp_path_factory.mktemp("events"))
    slow_source(world)
    world.ready()
    world.connect_app()
    yield world
    world.close()


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewWorld]:
    world = ReviewWorld(tmp_path_factory.mktemp("strict"), review=STRICT)
    world.write("shop.yaml", PROTECTED)
    world.publish()
    world.ready()
    world.connect_app()
    yield world
    world.close()


def slow_source(world: ReviewWorld) -> None:
    text = world.config.read_text()
    world.config.write_text(text.replace('.git", interval: 1s}', '.git", interval: 60s}'))
    assert world.config.read_text() != text


def named(name: str) -> str:
    """A manifest of another name for the same repository."""
    return SHOP.replace("metadata: {name: shop}", f"metadata: {{name: {name}}}")


def act(world: ReviewWorld, action: str, **options: Any) -> Any:
    return world.github.do(action, repository=REPOSITORY, **options)


def ended(world: ReviewWorld, sha: str) -> int:
    """How many reviews of a commit have ended."""
    return sum("review_finished" in line and sha in line for line in world.log().splitlines())


def page(world: ReviewWorld, path: str) -> tuple[int, str]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", world.port, timeout=30)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def commented(world: ReviewWorld, number: int, text: str) -> dict[str, Any]:
    row: dict[str, Any] = world.wait(
        lambda: next((row for row in world.comments(number) if text in row["body"] and row["app_id"] == APP), None),
        f"a comment with {text}",
    )
    return row


# -- events ---------------------------------------------------------------------------------------------------------------


def test_run_again_judges_the_same_check_again(shared: ReviewWorld) -> None:
    _, head = shared.open_pull({"shop.yaml": SHOP})
    assert shared.reviewed(head, 10) == "success"
    (check,) = shared.checks(head)
    shared.wait(lambda: ended(shared, head) == 1, "the review")
    act(shared, "rerun_check", id=check["id"], sender="ada")
    shared.wait(lambda: ended(shared, head) == 2, "the second review")
    act(shared, "rerun_checks", app=APP, head_sha=head, sender="ada")
    shared.wait(lambda: ended(shared, head) == 3, "the third review")
    assert [row["id"] for row in shared.checks(head)] == [check["id"]]


def test_a_push_to_the_branch_is_fetched_at_once(shared: ReviewWorld) -> None:
    head = shared.publish(pushed=named("pushed"))
    shared.github.do("push", repo=REPOSITORY, ref="refs/heads/main", commits=[{"id": head}])
    shared.wait(lambda: any(row[0] == "success" for row in shared.statuses(head)), "the status of the revision", 20)


def test_a_pull_request_that_leaves_the_branch_is_left_and_reviewed_when_it_comes_back(shared: ReviewWorld) -> None:
    number, head = shared.open_pull({"shop.yaml": SHOP})
    assert shared.reviewed(head, 10) == "success"
    act(shared, "edit_pull", number=number, base_ref="release")
    second = shared.push_pull(number, {"shop.yaml": SHOP + "# more\n"})
    act(shared, "edit_pull", number=number, base_ref="main", title="Now for main")
    assert shared.reviewed(second, 10) == "success"
    commented(shared, number, second[:12])
    assert len(shared.comments(number)) == 1


def test_one_that_is_reopened_has_its_plan_again(shared: ReviewWorld) -> None:
    number, head = shared.open_pull({"shop.yaml": SHOP}, draft=True)
    assert shared.reviewed(head, 10) == "success"
    commented(shared, number, "EventSource/shop")
    act(shared, "edit_pull", number=number, draft=False)
    act(shared, "close_pull", number=number)
    act(shared, "reopen_pull", number=number)
    shared.wait(lambda: ended(shared, head) == 2, "it is reviewed again")
    act(shared, "delete_comment", id=shared.comments(number)[0]["id"])
    second = shared.push_pull(number, {"shop.yaml": SHOP + "# second\n"})
    assert shared.reviewed(second, 10) == "success"
    commented(shared, number, "EventSource/shop")
    assert (len(shared.checks(head)), len(shared.comments(number))) == (1, 1)


def test_what_a_person_or_another_app_does_to_the_comment(shared: ReviewWorld) -> None:
    number, head = shared.open_pull({"shop.yaml": SHOP})
    ours = commented(shared, number, head[:12])
    marker = ours["body"].splitlines()[0]
    act(shared, "write_comment", number=number, sender="mallory", body=f"{marker}\nI am the plan")
    other = {**ours, "id": 999_999, "app_id": 4242, "body": f"{marker}\nof another App"}
    key = str(shared.github.state()["repos"][REPOSITORY]["id"])
    shared.github.put_state({"comments": {key: [*shared._rows("comments"), other]}})
    act(shared, "edit_comment", id=ours["id"], body="defaced")
    second = shared.push_pull(number, {"shop.yaml": SHOP + "# more\n"})
    assert commented(shared, number, second[:12])["id"] == ours["id"]
    bodies = [row["body"].partition("\n")[2] for row in shared.comments(number) if row["id"] != ours["id"]]
    assert sorted(bodies) == ["I am the plan", "of another App"]


def test_a_commit_that_left_the_merge_queue_has_no_open_check(shared: ReviewWorld) -> None:
    ref = "refs/heads/gh-readonly-queue/main/pr-9"
    head = shared.change(900, {"shop.yaml": SHOP})
    shared.git.git("update-ref", ref, head)
    group = {"head_sha": head, "base_sha": shared.git.head, "head_ref": ref}
    act(shared, "queue_pull", **group)
    assert shared.reviewed(head, 10) == "success"
    act(shared, "unqueue_pull", reason="merged", **group)
    act(shared, "rerun_check", id=shared.checks(head)[0]["id"])
    lost, gone = "7" * 40, "9" * 40
    act(shared, "unqueue_pull", **{**group, "head_sha": lost})  # nothing is known of it
    act(shared, "queue_pull", **{**group, "head_sha": gone})
    act(shared, "unqueue_pull", reason="invalidated", **{**group, "head_sha": gone})
    _, later = shared.open_pull({"shop.yaml": SHOP})
    assert shared.reviewed(later) == "success"
    shared.wait(lambda: all(row["status"] == "completed" for row in shared.checks(gone)), "no check is open")
    assert (shared.conclusion(head), shared.checks(lost)) == ("success", [])


def test_the_comment_says_what_is_not_ready_before_the_change_but_not_to_a_fork(shared: ReviewWorld) -> None:
    gone = SHOP.replace("shop", "nowhere")
    head = shared.publish(gone=gone)
    shared.github.do("push", repo=REPOSITORY, ref="refs/heads/main", commits=[{"id": head}])
    shared.wait(lambda: any(row[0] == "failure" for row in shared.statuses(head)), "the status of the revision", 20)
    number, own = shared.open_pull({"gone.yaml": gone.replace("push", "release")})
    assert "- stalled: `EventSource/nowhere` `ScopeGone: " in commented(shared, number, own[:12])["body"]
    fork, theirs = shared.open_pull({"gone.yaml": gone.replace("push", "create")}, fork=True)
    assert "ScopeGone" not in commented(shared, fork, theirs[:12])["body"]
    back = shared.publish(gone=named("gone"))
    shared.github.do("push", repo=REPOSITORY, ref="refs/heads/main", commits=[{"id": back}])


def test_the_details_link_leads_to_the_whole_plan(shared: ReviewWorld) -> None:
    files: dict[str, str | bytes | None] = {f"p/{at:03}.yaml": SHOP.replace("shop", f"page-{at:03}") for at in range(300)}
    number, head = shared.open_pull(files, title="<script>alert(1)</script>")
    assert shared.reviewed(head, 60) == "success"
    (check,) = shared.checks(head)
    assert check["details_url"] == f"http://127.0.0.1:{shared.port}/reviews/{number}"
    assert f"({check['details_url']})" in commented(shared, number, head[:12])["body"]
    status, text = page(shared, f"/reviews/{number}")
    assert status == 200
    assert all(f"page-{at:03}" in text for at in range(300)), "nothing is cut"
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert page(shared, "/reviews/4711")[0] == page(shared, "/reviews/x")[0] == 404


def test_a_secondary_rate_limit_delays_a_review_and_doubles_nothing(shared: ReviewWorld) -> None:
    refusal = {"message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."}
    limited = {"status": 403, "headers": {"retry-after": "1"}, "body": refusal, "times": 1}
    for method, path in (("POST", "/check-runs$"), ("PATCH", "/check-runs/"), ("POST", "/comments$")):
        shared.github.fault(method=method, path=path, **limited)
    number, head = shared.open_pull({"shop.yaml": SHOP})
    assert shared.reviewed(head) == "success"
    commented(shared, number, head[:12])
    shared.github.clear_faults()
    assert (len(shared.checks(head)), len(shared.comments(number))) == (1, 1)


def test_reviews_are_counted(shared: ReviewWorld) -> None:
    _, head = shared.open_pull({"README.md": "hello"})
    assert shared.reviewed(head, 10) == "neutral"
    shared.wait(lambda: 'reconciler_reviews_total{conclusion="neutral"}' in page(shared, "/metrics")[1], "the count")
    text = page(shared, "/metrics")[1]
    assert "reconciler_review_duration_seconds_count" in text
    shared.wait(lambda: "reconciler_review_oldest_open_timestamp_seconds 0.0" in page(shared, "/metrics")[1], "no review is open")


# -- settings and failures ------------------------------------------------------------------------------------------------


def test_a_head_that_cannot_be_fetched_ends_as_timed_out(strict: ReviewWorld) -> None:
    number = max((row["number"] for row in strict.pulls()), default=0) + 1
    act(strict, "open_pull", head_sha="8" * 40, number=number, author="mallory")
    assert strict.reviewed("8" * 40) == "timed_out"
    assert "too long" in strict.checks("8" * 40)[0]["output"]["title"]
    act(strict, "close_pull", number=number)


def test_forks_are_left_out_if_the_settings_say_so(strict: ReviewWorld) -> None:
    _, fork = strict.open_pull({"more.yaml": SHOP.replace("shop", "more")}, fork=True)
    _, own = strict.open_pull({"more.yaml": SHOP.replace("shop", "more")})
    assert strict.reviewed(own) == "success"
    assert strict.checks(fork) == []


def test_only_named_approvers_may_press_and_only_the_button_of_what_is_blocked_now(strict: ReviewWorld) -> None:
    number, first = strict.open_pull({"shop.yaml": None})
    assert strict.reviewed(first) == "action_required"
    (check,) = strict.checks(first)
    press = {"id": check["id"], "identifier": check["actions"][0]["identifier"]}
    act(strict, "press_check", sender="ada", **press)
    strict.wait(lambda: "review.approvers does not name this person" in strict.log(), "a refusal")
    second = strict.push_pull(number, {"shop.yaml": None, "README.md": "the same changes"})
    strict.wait(lambda: strict.checks(second), "the next check")
    act(strict, "press_check", sender="grace", **press)  # of the former commit
    assert strict.reviewed(second) == "action_required"
    third = strict.push_pull(number, {"shop.yaml": None, "other.yaml": SHOP.replace("shop", "other")})
    assert strict.reviewed(third) == "action_required"
    (newest,) = strict.checks(third)
    act(strict, "press_check", sender="Grace", id=newest["id"], identifier=newest["actions"][0]["identifier"])
    strict.wait(lambda: strict.conclusion(third) == "success", "the approval")
    assert strict.conclusion(first) == "action_required"
    assert third[:12] in commented(strict, number, "`Grace`")["body"]


def test_an_outage_longer_than_the_timeout_costs_no_review(strict: ReviewWorld) -> None:
    strict.github.fault(path="/check-runs", status=502, times=0)
    _, head = strict.open_pull({"outage.yaml": SHOP.replace("shop", "outage")})
    strict.wait(lambda: sum("review_retry_scheduled" in line for line in strict.log().splitlines()) >= 4, "attempts")
    strict.github.clear_faults()
    assert strict.reviewed(head) == "success"
    assert "review_abandoned" not in strict.log()


def test_a_suspended_app_costs_only_the_time_of_its_suspension(strict: ReviewWorld) -> None:
    strict.github.do("suspend_installation", installation=INSTALLATION)
    _, head = strict.open_pull({"late.yaml": SHOP.replace("shop", "late")})
    strict.wait(lambda: "is suspended since" in strict.log(), "the refusal")
    strict.github.do("unsuspend_installation", installation=INSTALLATION)
    assert strict.reviewed(head) == "success"


def test_a_source_that_cannot_be_fetched_changes_no_status_and_an_empty_revision_is_refused(strict: ReviewWorld) -> None:
    head = strict.git.head
    strict.wait(lambda: any(row[0] == "success" for row in strict.statuses(head)), "the status of the revision")
    away = strict.git.path.with_name("away.git")
    strict.git.path.rename(away)
    strict.wait(lambda: "source_failed" in strict.log(), "the fetch fails")
    away.rename(strict.git.path)
    files = dict.fromkeys(strict.files())
    empty = strict.git.commit({**files, "shop.yaml": None, "README.md": "nothing"})
    strict.github.put_state({"repos": {REPOSITORY: {"commits": {empty: {}}}}})
    refused = strict.wait(lambda: [row for row in strict.statuses(empty) if row[0] == "failure"], "the refusal")
    assert refused[0][1].startswith("refused: ")
    heads = [strict.publish(fast=named(f"fast-{at}")) for at in range(5)]
    strict.wait(lambda: any(row[0] == "success" for row in strict.statuses(heads[-1])), "the newest")
    assert strict.statuses(head)[-1][0] == "success"
    assert all(rows[-1][0] in {"success", "failure"} for sha in heads if (rows := strict.statuses(sha)))


def test_a_commit_that_ends_five_processes_ends_as_timed_out(tmp_path: Path) -> None:
    world = ReviewWorld(tmp_path, review="{integration: github, interval: 1s, timeout: 60s}")
    try:
        world.cli("apply", "--yes")
        _, head = world.open_pull({"shop.yaml": SHOP})
        for _ in range(5):
            world.died(world.doomed("review-after-plan"), "review-after-plan")
        world.daemon()
        assert world.reviewed(head) == "timed_out"
        assert "5 processes" in world.checks(head)[0]["output"]["title"]
    finally:
        world.close()


def test_with_a_token_the_webhook_of_a_source_brings_the_events(tmp_path: Path) -> None:
    world = ReviewWorld(tmp_path, app=False)
    try:
        world.source("payments", events="[{type: push}, {type: pull_request}]")
        world.publish()
        world.ready()
        world.wait(lambda: world.hooks("payments"), "the webhook")
        _, head = world.open_pull({"shop.yaml": SHOP})
        world.wait(lambda: "success" in {row[0] for row in world.statuses(head, "reconciler/plan")}, "the status", 20)
        assert world.checks() == []
    finally:
        world.close()
