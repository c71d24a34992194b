"""The list of reviews says what each check says."""

from __future__ import annotations

import pytest

from reconciler.model.reviews import Grant, ReviewState
from reconciler.server.dashboard.review_rows import review_row
from reconciler.state.reviews import NEVER, StoredReview

HEAD, DIGEST, FORMER = "a" * 40, "sha256:" + "1" * 64, "sha256:" + "2" * 64


@pytest.mark.parametrize(
    ("approved", "word", "tone", "by"),
    [(DIGEST, "approved", "good", "grace"), (FORMER, "action required", "warn", ""), ("", "action required", "warn", "")],
)
def test_an_approval_of_former_changes_is_not_shown_at_those_that_are_blocked_now(
    approved: str, word: str, tone: str, by: str
) -> None:
    grant = Grant("grace", approved, 5.0, "github:grace") if approved else None
    state = ReviewState(
        "acme/infra",
        7,
        HEAD,
        "main",
        done_head=HEAD,
        conclusion="action_required",
        outcome="1 blocked",
        digest=DIGEST,
        grant=grant,
    )
    row = review_row(StoredReview("acme/infra#7", 1, NEVER, state))
    assert (row["word"], row["tone"], row["granted_by"]) == (word, tone, by)
