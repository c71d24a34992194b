"""The demo's steps with a pull request: reviewed, approved by a person, merged, and what the comment says afterwards."""

from __future__ import annotations

import re

import msgspec

from reconciler.cli.demo.repository import FULL_NAME
from reconciler.cli.demo.script import Script, StepFailed, expect, wait_for
from reconciler.cli.demo.shapes import GitHubRows, ListedCheck, ListedComment
from reconciler.cli.demo.world import DemoWorld

NUMBER = 1
AUTHOR, APPROVER = "lin", "ada"
REMOVED = ("payments", "audit")
"""EventSources that the pull request removes; ``lifecycle.preventDestroy`` protects the second."""


class PullRequestSteps:
    """Plays the steps in order. The daemon must run, and all resources must be Ready."""

    def __init__(self, world: DemoWorld, script: Script) -> None:
        self._world = world
        self._script = script
        self._github = world.providers["github"].admin
        self._head = ""

    def play(self) -> None:
        """Open, review, approve and merge."""
        self._script.part("A pull request is reviewed, approved and merged")
        self._open()
        check = self._review()
        self._approve(check)
        self._merge()

    def _open(self) -> None:
        with self._script.step(f"{AUTHOR} opens a pull request that removes two event sources") as notes:
            self._world.repository.remove_sources(*REMOVED)
            self._head = self._world.repository.propose(NUMBER, f"Remove {' and '.join(REMOVED)}")
            options = {"head_sha": self._head, "number": NUMBER, "author": AUTHOR, "title": f"Remove {' and '.join(REMOVED)}"}
            self._github.do("open_pull", repository=FULL_NAME, **options)
            notes.add(f"{FULL_NAME}#{NUMBER} at {self._head[:8]}; preventDestroy protects EventSource/{REMOVED[1]}")

    def _review(self) -> ListedCheck:
        text = "the daemon reviews it: one check run and one comment"
        with self._script.step(text, f"reconciler review {NUMBER}") as notes:
            check = wait_for("a completed check run", self._completed)
            expect(check.conclusion == "action_required", f"the check ended as {check.conclusion}: {check.output.title}")
            expect(len(check.actions) == 1, f"the check has {len(check.actions)} buttons")
            comment = wait_for("the comment", self._comment)
            for name in REMOVED:
                expect(f"EventSource/{name}" in comment.body, f"the comment does not mention EventSource/{name}")
            notes.add(f"check {check.name}: {check.conclusion}, {check.output.title}")
            notes.add(f"button [{check.actions[0].label}] {check.actions[0].description}")
            notes.add(f"comment by {comment.author}:")
            notes.quote(*_important(comment.body))
            return check

    def _approve(self, check: ListedCheck) -> None:
        button = check.actions[0]
        with self._script.step(f"{APPROVER} presses the check's button [{button.label}]: the check passes") as notes:
            self._github.do("press_check", repository=FULL_NAME, id=check.id, identifier=button.identifier, sender=APPROVER)
            wait_for("the check passes", lambda: self._conclusion() == "success")
            notes.quote(wait_for("the approval in the comment", lambda: _line(self._body(), "approved by")))

    def _merge(self) -> None:
        text = f"{APPROVER} merges it: both webhooks go, and the comment says so"
        with self._script.step(text, "reconciler status", "reconciler history") as notes:
            sha = self._world.repository.merge(NUMBER)
            self._github.do("merge_pull", repository=FULL_NAME, number=NUMBER, sha=sha, by=APPROVER)
            wait_for("no webhook on acme/payments", lambda: not self._world.hooks("payments"))
            wait_for("no webhook of the organization", lambda: not self._world.org_hooks())
            wait_for("the commit applied", lambda: self._world.applied(sha))
            wait_for("the outcome in the comment", self._is_told)
            notes.quote(*(_line(self._body(), words) for words in ("Merged as", "approved by", *REMOVED)))

    # -- at GitHub ----------------------------------------------------------------------------------------------------

    def _rows(self) -> GitHubRows:
        return msgspec.convert(self._github.state(), GitHubRows)

    def _completed(self) -> ListedCheck | None:
        """Return the one check run of the head; None while it is open."""
        rows = self._rows()
        checks = [row for row in rows.checks.get(rows.of(FULL_NAME), ()) if row.head_sha == self._head]
        expect(len(checks) <= 1, f"there are {len(checks)} check runs of one commit")
        return next((check for check in checks if check.conclusion), None)

    def _conclusion(self) -> str:
        check = self._completed()
        return check.conclusion or "" if check is not None else ""

    def _comment(self) -> ListedComment | None:
        rows = self._rows()
        comments = [row for row in rows.comments.get(rows.of(FULL_NAME), ()) if row.number == NUMBER]
        expect(len(comments) <= 1, f"there are {len(comments)} comments")
        return comments[0] if comments else None

    def _is_told(self) -> bool:
        body = self._body()
        return all(f"deleted: `EventSource/{name}`" in body for name in REMOVED)

    def _body(self) -> str:
        comment = self._comment()
        if comment is None:
            raise StepFailed("the comment is gone")
        return comment.body


def _important(body: str) -> list[str]:
    """Return the lines of a comment that people read first: the verdict, and what happens to which resource."""
    return [line.strip() for line in body.splitlines() if re.match(r"###? |Blocked changes|- `.`|  lifecycle", line)]


def _line(body: str, words: str) -> str:
    """Return the first line with ``words``; empty if there is none."""
    return next((line for line in body.splitlines() if words in line), "")
