"""The real daemon reviews pull requests of a simulated code host, over HTTP and real Git."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reviews.world import REPOSITORY, ReviewWorld

SHOP = "kind: EventSource\nmetadata: {name: shop}\nspec: {integration: {name: hooks}, resource: {type: repository, name: shop}, events: [{type: push}]}\n"
PROTECTED = SHOP.replace("spec: {", "spec: {lifecycle: {preventDestroy: true}, ")
BROKEN = SHOP.replace("integration:", "integratoin:")
FAST = "{integration: github, interval: 1s, timeout: 60s}"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewWorld]:
    """One daemon for the tests that only open pull requests."""
    world = ReviewWorld(tmp_path_factory.mktemp("reviews"))
    world.ready()
    world.connect_app()
    yield world
    world.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ReviewWorld]:
    made = ReviewWorld(tmp_path, review=FAST)
    yield made
    made.close()


def test_a_pull_request_gets_one_check_and_one_comment_that_follow_its_head(shared: ReviewWorld) -> None:
    number, first = shared.open_pull({"shop.yaml": SHOP})
    assert shared.reviewed(first) == "success"
    (check,) = shared.checks(first)
    assert check["output"]["title"].startswith("Plan: 1 to create")
    assert "EventSource" in check["output"]["text"]
    (comment,) = shared.wait(lambda: shared.comments(number), "the comment")
    assert "shop" in comment["body"]
    second = shared.push_pull(number, {"shop.yaml": SHOP.replace("push", "release")})
    assert shared.reviewed(second) == "success"
    (same,) = shared.comments(number)
    shared.wait(lambda: second[:12] in shared.comments(number)[0]["body"], "the comment is edited")
    assert same["id"] == comment["id"]


def test_a_fork_is_planned_without_a_secret_and_without_a_provider_call(shared: ReviewWorld) -> None:
    shared.github.clear_requests()
    secret = "kind: Secret\nmetadata: {name: evil}\nspec: {provider: env, data: {token: {env: RECONCILER_SECRET_PEM}}}\n"
    evil = (
        "kind: Integration\nmetadata: {name: evil}\nspec: {type: github, url: https://github.com/evil, "
        "auth: {use: token, token: {valueFrom: {secret: {name: evil, key: token}}}}}\n"
    )
    number, head = shared.open_pull({"evil.yaml": f"{secret}---\n{evil}"}, fork=True)
    assert shared.reviewed(head) == "success"
    shared.wait(lambda: shared.comments(number), "the comment")
    touched = {row["path"] for row in shared.requests() if "/evil" in row["path"]}
    assert touched == set()
    assert "BEGIN" not in json.dumps([shared.checks(head), shared.comments(number)])


def test_invalid_manifests_fail_with_annotations_at_their_lines(shared: ReviewWorld) -> None:
    _, head = shared.open_pull({"shop.yaml": BROKEN})
    assert shared.reviewed(head) == "failure"
    (check,) = shared.checks(head)
    assert check["annotations"]
    assert {row["path"] for row in check["annotations"]} == {"shop.yaml"}
    assert all(row["start_line"] >= 1 and row["annotation_level"] == "failure" for row in check["annotations"])


def test_more_than_fifty_annotations_are_sent_in_pages_and_all_arrive(shared: ReviewWorld) -> None:
    files: dict[str, str | bytes | None] = {
        f"bad-{number:03}.yaml": BROKEN.replace("shop", f"s{number}") for number in range(120)
    }
    _, head = shared.open_pull(files)
    assert shared.reviewed(head, 60) == "failure"
    (check,) = shared.checks(head)
    assert len({row["path"] for row in check["annotations"]}) == 120
    assert len(check["annotations"]) == len({(row["path"], row["message"], row["start_line"]) for row in check["annotations"]})


def test_without_a_changed_manifest_the_check_is_neutral_and_there_is_no_comment(shared: ReviewWorld) -> None:
    number, head = shared.open_pull({"README.md": "hello"})
    assert shared.reviewed(head) == "neutral"
    assert shared.comments(number) == []


def test_a_merge_group_is_answered_for_its_own_commit(shared: ReviewWorld) -> None:
    head = shared.git.commit({"shop.yaml": SHOP}, branch="gh-readonly-queue/main/pr-1", orphan=False)
    shared.git.git("update-ref", "refs/heads/gh-readonly-queue/main/pr-1", head)
    shared.github.do(
        "queue_pull",
        repository=REPOSITORY,
        head_sha=head,
        base_sha=shared.git.head,
        head_ref="refs/heads/gh-readonly-queue/main/pr-1",
    )
    assert shared.reviewed(head) in {"success", "failure"}


def test_hostile_text_stays_text(shared: ReviewWorld) -> None:
    from markdown_it import MarkdownIt

    names = [
        "@everyone",
        "![x](https://evil/x.png)",
        "[a](https://evil)",
        "<!-- x -->",
        "</details>",
        "```",
        "#1",
        "https://evil.example",
    ]
    text = "\n---\n".join(
        f"kind: EventSource\nmetadata: {{name: h{at}, annotations: {{note: {json.dumps(name)}}}}}\n"
        f"spec: {{integration: {{name: github}}, resource: {{type: repository, name: {json.dumps(name)}}}, events: [{{type: {json.dumps(name)}}}]}}"
        for at, name in enumerate(names)
    )
    number, head = shared.open_pull({"hostile.yaml": text, "`a @b [c](d) ![e](f)`.yaml": BROKEN}, title=" ".join(names))
    assert shared.reviewed(head) in {"failure", "success"}
    (comment,) = shared.wait(lambda: shared.comments(number), "the comment")
    (check,) = shared.checks(head)
    for body in (comment["body"], check["output"]["summary"], check["output"]["text"]):
        tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(body)
        inline = [child for token in tokens for child in token.children or ()]
        links = {child.attrGet("href") for child in inline if child.type == "link_open"}
        assert links <= {f"http://127.0.0.1:{shared.port}/reviews/{number}"}, "only the link to the details is one"
        assert not [child for child in inline if child.type == "image"]
        shown = " ".join(child.content for child in inline if child.type == "text")
        assert "@" not in shown
        assert "evil" not in shown
        html = [token.content.strip() for token in tokens if token.type == "html_block"] + [
            child.content for child in inline if child.type == "html_inline"
        ]
        allowed = ("<!-- reconciler-review", "<details>", "</details>")
        assert all(part.startswith(allowed) for part in html), html


def test_bombs_and_thousands_of_manifests_end_with_a_verdict(shared: ReviewWorld) -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    _, bombed = shared.open_pull({"bomb.yaml": bomb, "deep.yaml": "[" * 5_000, "long.yaml": "x" * (1 << 20)})
    files: dict[str, str | bytes | None] = {f"s/{at:04}.yaml": SHOP.replace("shop", f"s{at:04}") for at in range(3_000)}
    number, many = shared.open_pull(files)
    assert shared.reviewed(bombed, 60) == "failure"
    assert shared.reviewed(many, 120) == "success"
    (comment,) = shared.wait(lambda: shared.comments(number), "the comment")
    assert len(comment["body"]) <= 65_536
    assert "3000 to create" in comment["body"]


def test_a_lost_event_costs_one_interval(world: ReviewWorld) -> None:
    world.ready()  # the App's webhook leads nowhere: no event arrives
    _, head = world.open_pull({"shop.yaml": SHOP})
    assert world.reviewed(head) == "success"


def test_a_check_of_an_older_head_is_ended_and_only_the_newest_is_judged(world: ReviewWorld) -> None:
    world.ready()
    world.connect_app()
    number, first = world.open_pull({"shop.yaml": SHOP})
    heads = [first] + [world.push_pull(number, {"shop.yaml": SHOP + f"# {at}\n"}) for at in range(9)]
    assert world.reviewed(heads[-1]) == "success"
    world.wait(lambda: all(row["status"] == "completed" for row in world.checks()), "no check is open")
    assert len(world.checks()) < len(heads)
    assert len(world.wait(lambda: world.comments(number), "the comment")) == 1


def test_a_pull_request_that_is_closed_leaves_no_open_check(world: ReviewWorld) -> None:
    world.ready()
    world.connect_app()
    number, head = world.open_pull({"shop.yaml": SHOP})
    world.github.do("close_pull", repository=REPOSITORY, number=number)
    world.wait(lambda: all(row["status"] == "completed" for row in world.checks(head)), "no check is open")


def test_with_a_token_a_commit_status_takes_the_place_of_the_check(tmp_path: Path) -> None:
    world = ReviewWorld(tmp_path, app=False, review=FAST)
    try:
        world.ready()
        number, head = world.open_pull({"shop.yaml": SHOP})
        rows = world.wait(
            lambda: [row for row in world.statuses(head, "reconciler/plan") if row[0] == "success"], "the status of the plan"
        )
        assert rows[0][1].startswith("Plan: 1 to create")
        assert world.checks() == []
        assert len(world.wait(lambda: world.comments(number), "the comment")) == 1
        assert world.unauthorized() == []
    finally:
        world.close()


def test_each_revision_of_the_branch_gets_a_final_status(world: ReviewWorld) -> None:
    world.ready()
    first = world.git.head
    world.wait(lambda: ("success", "applied: 5 of 5 resources ready") in world.statuses(first), "the status of the revision")
    bad = world.publish(shop=BROKEN)
    world.wait(lambda: [row for row in world.statuses(bad) if row[0] == "failure"], "the status of the invalid revision")
    good = world.publish(shop=SHOP)
    world.wait(lambda: [row for row in world.statuses(good) if row[0] == "success"], "the status of the next revision")


def test_after_the_merge_the_comment_says_what_became_of_it(world: ReviewWorld) -> None:
    world.ready()
    world.connect_app()
    number, head = world.open_pull({"shop.yaml": SHOP})
    assert world.reviewed(head) == "success"
    world.wait(lambda: world.comments(number), "the comment")
    sha = world.merge(number)
    body = world.wait(lambda: _contains(world, number, "ready: `EventSource/shop`"), "the outcome")
    assert sha[:12] in body
    assert "`ada`" in body
    assert len(world.comments(number)) == 1
    assert len(world.hooks("shop")) == 1 or world.all_ready()


def _contains(world: ReviewWorld, number: int, text: str) -> str:
    body = str(world.comments(number)[0]["body"])
    return body if text in body else ""


def test_blocked_changes_wait_for_the_button_of_a_person_who_may_press_it(world: ReviewWorld) -> None:
    world.write("shop.yaml", PROTECTED)
    world.publish()
    world.ready()
    world.connect_app()
    number, head = world.open_pull({"shop.yaml": None})
    assert world.reviewed(head) == "action_required"
    (check,) = world.checks(head)
    (button,) = check["actions"]
    press = {"repository": REPOSITORY, "id": check["id"], "identifier": button["identifier"]}
    world.github.do("press_check", **press, sender="mallory")
    world.wait(lambda: "review_approval_refused" in world.log(), "a refusal")
    assert world.conclusion(head) == "action_required"
    world.github.do("press_check", **press, sender="ada")
    world.wait(lambda: world.conclusion(head) == "success", "the approval")
    world.wait(lambda: "`ada`" in world.comments(number)[0]["body"], "the comment, which follows the check")
    world.merge(number)
    world.wait(
        lambda: not world.hooks("shop") and not world.resource("EventSource", "shop").get("objects"), "the hook is deleted"
    )
    world.wait(lambda: _contains(world, number, "deleted: `EventSource/shop`"), "the outcome")


def test_review_by_hand(world: ReviewWorld) -> None:
    world.ready()
    number, head = world.open_pull({"shop.yaml": SHOP})
    done = world.cli("review", str(number), "-o", "json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["head"], answer["conclusion"]) == (head, "success")
    missing = world.cli("review", "999")
    assert missing.returncode == 1
    assert "has no pull request #999" in missing.stderr


POINTS = [
    "review-after-intent",
    "review-after-check",
    "review-after-open",
    "review-after-plan",
    "review-after-close",
    "review-after-comment",
]


def test_kill_9_at_every_step_leaves_one_completed_check_and_one_comment(world: ReviewWorld) -> None:
    world.cli("apply", "--yes")
    number, first = world.open_pull({"shop.yaml": SHOP})
    for point in POINTS[:4]:
        world.died(world.doomed(point), point)
    world.ready()
    assert world.reviewed(first) == "success"
    assert len(world.wait(lambda: world.comments(number), "the comment")) == 1
    world.kill()
    second = world.push_pull(number, {"shop.yaml": SHOP + "# second\n"})
    for point in POINTS[4:]:
        world.died(world.doomed(point), point)
        assert world.conclusion(second) == "success"
    world.push_pull(number, {"shop.yaml": SHOP + "# left open\n"})
    world.died(world.doomed("review-after-open"), "review-after-open")
    last = world.push_pull(number, {"shop.yaml": SHOP + "# last\n"})
    world.died(world.doomed("review-after-cancel"), "review-after-cancel")
    world.daemon()
    assert world.reviewed(last) == "success"
    world.wait(lambda: last[:12] in world.comments(number)[0]["body"], "the comment")
    assert len(world.comments(number)) == 1
    assert [row["conclusion"] for row in world.checks()].count("cancelled") == 1
    assert all(row["status"] == "completed" for row in world.checks())


def test_kill_9_before_an_approval_is_stored_loses_no_press(world: ReviewWorld) -> None:
    world.write("shop.yaml", PROTECTED)
    world.publish()
    assert world.cli("apply", "--yes").returncode == 0
    process = world.doomed("review-before-grant")
    world.wait(world.listens, "the receiver listens")
    world.connect_app()
    _, head = world.open_pull({"shop.yaml": None})
    assert world.reviewed(head) == "action_required"
    (check,) = world.checks(head)
    press = {"repository": REPOSITORY, "id": check["id"], "identifier": check["actions"][0]["identifier"], "sender": "grace"}
    world.wait(lambda: "review_finished" in world.log(), "the review is stored")
    world.github.do("press_check", **press)
    world.died(process, "review-before-grant")
    world.daemon()
    world.wait(lambda: world.conclusion(head) == "success", "the approval")
