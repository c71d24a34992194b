"""The examples with reviews are run as they stand; only where GitHub is, and who the App is, is added."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import ROOT
from tests.flow.app_deliveries import CLIENT
from tests.reviews import world as reviewing
from tests.reviews.world import ReviewWorld

REPOSITORY = "acme/integrations"
Make = Callable[[str], "ExampleReviews"]


class ExampleReviews(ReviewWorld):
    """`ReviewWorld` with the manifests and the section `review` of an example."""

    def __init__(self, folder: Path, example: str, *, app: bool) -> None:
        super().__init__(folder, app=app)
        self.git.commit(dict.fromkeys(self.files()))
        self.manifests_of(ROOT / "examples" / example)
        self.github.put_state({"repos": {"acme/integrations": {}, "acme/payments": {}, "acme/web": {}}})
        pem = folder / "secrets" / "review-app.private-key.pem"
        pem.parent.mkdir(exist_ok=True)
        pem.write_text(self._pem)
        self.extra_env |= {"RECONCILER_SECRET_GITHUB_TOKEN": self.env["RECONCILER_SECRET_GITHUB"]}
        review = yaml.safe_load((ROOT / "examples" / example / "reconciler.yaml").read_text())["review"]
        self.settings(review=json.dumps(review), secrets="{folder: secrets}")
        self.publish()

    def manifests_of(self, folder: Path) -> None:
        shutil.rmtree(self.manifests)
        shutil.copytree(folder, self.manifests, ignore=shutil.ignore_patterns("reconciler.yaml"))
        for file in self.manifests.iterdir():
            text = file.read_text().replace("Iv23liExampleExample", CLIENT)
            file.write_text(text.replace("\n  type: github\n", f"\n  type: github\n  apiUrl: {self.servers['github'].url}\n"))


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    made: list[ExampleReviews] = []
    monkeypatch.setattr(reviewing, "REPOSITORY", REPOSITORY)

    def build(example: str) -> ExampleReviews:
        made.append(ExampleReviews(tmp_path, example, app=example == "review-app"))
        return made[-1]

    yield build
    for world in made:
        world.close()


def test_an_app_reviews_and_a_named_person_approves_with_the_button(make: Make) -> None:
    world = make("review-app")
    world.app_hook("https://example.invalid/hook", "")
    world.ready()
    text = (world.manifests / "sources.yaml").read_text()
    number, head = world.open_pull({"sources.yaml": text.partition("\n---\n")[0] + "\n"})
    assert world.reviewed(head) == "action_required"
    (check,) = world.checks(head)
    (button,) = check["actions"]
    world.wait(lambda: "review_finished" in world.log(), "the review is stored")
    world.github.do("press_check", repository=REPOSITORY, id=check["id"], identifier=button["identifier"], sender="ada")
    world.wait(lambda: world.conclusion(head) == "success", "the approval")
    world.merge(number)
    world.wait(lambda: "deleted: `EventSource/payments`" in world.comments(number)[0]["body"], "the outcome")
    assert world.hooks("payments") == []


def test_a_token_writes_a_status_and_a_comment_and_leaves_out_forks(make: Make) -> None:
    world = make("review-token")
    world.ready()
    more = (world.manifests / "sources.yaml").read_text().replace("{type: push}", "{type: push}, {type: release}")
    _, foreign = world.open_pull({"sources.yaml": more}, fork=True)
    number, head = world.open_pull({"sources.yaml": more})
    world.wait(lambda: [row for row in world.statuses(head, "reconciler/plan") if row[0] == "success"], "the status of the plan")
    world.wait(lambda: "EventSource/web" in "".join(row["body"] for row in world.comments(number)), "the comment")
    assert world.statuses(foreign, "reconciler/plan") == []
    assert world.checks() == []
