"""Rows of the page Reviews: the open pull requests, and how far the review of each is. Pure."""

from __future__ import annotations

from typing import Any

from reconciler.model.reviews import Conclusion, ReviewState
from reconciler.model.times import iso
from reconciler.state.reviews import StoredReview

_TONES = {
    Conclusion.SUCCESS.value: "good",
    Conclusion.FAILURE.value: "bad",
    Conclusion.ACTION_REQUIRED.value: "warn",
    Conclusion.TIMED_OUT.value: "bad",
}


def review_row(stored: StoredReview) -> dict[str, Any]:
    """Return a row of an open review."""
    state = stored.state
    word, tone = _verdict(state)
    return {
        "key": stored.key,
        "page": str(state.number or state.head),
        "name": f"{state.repository}#{state.number}" if state.number else f"{state.repository} merge queue",
        "title": state.title,
        "author": state.author,
        "url": state.url,
        "fork": state.fork,
        "head": state.head,
        "base": state.base if state.number else "",
        "word": word,
        "tone": tone,
        "outcome": state.outcome if state.done_head == state.head else "",
        "digest": state.digest if state.done_head == state.head else "",
        "granted_by": state.approval.login if state.approval is not None else "",
        "updated_at": iso(state.updated_at),
        "since": iso(state.open_since),
        "resources": len(state.resources),
        "error": state.error,
    }


def _verdict(state: ReviewState) -> tuple[str, str]:
    """Return the word for the newest commit's review, and its tone."""
    if state.done_head != state.head:
        return ("in progress" if state.open_head else "waiting"), "busy"
    if state.approval is not None:
        return "approved", "good"
    return state.conclusion.replace("_", " ") or "reviewed", _TONES.get(state.conclusion, "idle")


__all__ = ["review_row"]
