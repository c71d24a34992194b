"""Reviews in the state: an event that arrives meanwhile is never overwritten."""

from __future__ import annotations

from reconciler.model.reviews import Grant, ReviewedBlock, ReviewState, Wish
from reconciler.state import Store
from reconciler.state.reviews import NEVER, StoredReview

KEY = "acme/web#7"


def new(key: str = KEY, **fields: object) -> StoredReview:
    return StoredReview(key, 0, 0.0, ReviewState("acme/web", number=7, head="a", **fields))  # type: ignore[arg-type]


def test_a_review_comes_back_as_it_was_stored(store: Store) -> None:
    block = ReviewedBlock("Integration/default/github", "EventSource/default/web", "x", "delete")
    row = new(blocked=(block,), grant=Grant("ada", "sha256:1", 2.5), wish=Wish("eve", "approve-1", "a"))
    assert store.save_review(row, row.state, 5.0)
    stored = store.review(KEY)
    assert stored is not None
    assert (stored.version, stored.due_at, stored.state) == (1, 5.0, row.state)


def test_of_two_changes_of_one_version_the_second_is_refused(store: Store) -> None:
    assert store.save_review(new(), new().state, 0.0)
    assert not store.save_review(new(), new().state, 0.0)
    row = store.review(KEY)
    assert row is not None
    assert store.save_review(row, ReviewState("acme/web", head="b"), 0.0)
    assert not store.save_review(row, ReviewState("acme/web", head="c"), 0.0)
    latest = store.review(KEY)
    assert latest is not None
    assert latest.state.head == "b"


def test_due_reviews_are_those_of_the_repository_the_longest_due_first(store: Store) -> None:
    for key, due in (
        ("acme/web#1", 3.0),
        ("acme/web#2", 1.0),
        ("acme/web#3", NEVER),
        ("acme/web_x#4", 1.0),
        ("acme/webXx#5", 1.0),
    ):
        assert store.save_review(new(key), new().state, due)
    assert [row.key for row in store.due_reviews("acme/web#", 5.0, 10)] == ["acme/web#2", "acme/web#1"]
    assert [row.key for row in store.due_reviews("acme/web_", 5.0, 10)] == ["acme/web_x#4"]
    store.drop_reviews(["acme/web#1", "acme/web#2"])
    assert store.open_reviews("acme/web#", 10) == ["acme/web#3"]
    row = store.review("acme/web#3")
    assert row is not None
    assert store.save_review(row, ReviewState("acme/web", number=3, check_id="77", closed="merged"), NEVER)
    assert store.open_reviews("acme/web#", 10) == []
    assert store.review_of_check("acme/web#", "77") == "acme/web#3"
    assert store.review_of_check("acme/other#", "77") is None
