"""The page of a review, to which the details link of its check leads."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.credentials.redact import Redactor
from reconciler.model.printable import plain_lines
from reconciler.model.times import iso
from reconciler.server.api.handlers import Backend
from reconciler.server.dashboard.views import NoPage, PageContent


class ReviewViews:
    """Shows reviews of pull requests."""

    def __init__(self, backend: Backend, redactor: Redactor) -> None:
        self._backend = backend
        self._redactor = redactor

    async def review(self, path: Mapping[str, str], query: Mapping[str, str]) -> PageContent:
        """Show the verdict on a pull request, or on a commit of the merge queue, with the whole plan."""
        pages = self._backend.review_pages
        page = await pages.page(path["name"]) if pages is not None else None
        if page is None:
            hint = "The daemon reviews the pull requests of `source.branch`, and forgets them 30 days after they were closed."
            raise NoPage("there is no review of this pull request", hint=hint)
        state = page.state
        title = f"Review of #{state.number}" if state.number else f"Review of {state.head[:12]}"
        facts = {
            "title": state.title,
            "author": state.author,
            "url": state.url,
            "base": state.base,
            "head": state.head,
            "conclusion": state.conclusion if state.done_head == state.head else "in_progress",
            "outcome": state.outcome if state.done_head == state.head else "the plan is being made",
            "closed": state.closed,
            "approved_by": state.approval.login if state.approval is not None else "",
            "approved_at": iso(state.grant.at) if state.grant is not None else "",
            "error": state.error,
        }
        plan = self._redactor.redact(plain_lines(page.plan))
        values = {"heading": title, "review": self._redactor.redact_fields(facts), "plan": plan, "is_whole": page.is_whole}
        return PageContent("review.html", title, values)


__all__ = ["ReviewViews"]
