"""Works on one review: check in progress, plan, verdict, comment. Each step is stored before and after, so that a killed process
leaves no check open: the next one takes it up again.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from reconciler.drivers.http.client import ApiClient
from reconciler.engine.backoff import pause_after
from reconciler.engine.current import Current
from reconciler.failpoints import failpoint
from reconciler.model.errors import NotFound, ReconcilerError, StateError, ValidationFailed
from reconciler.model.reviews import CheckReport, CommitState, Conclusion, ReviewState
from reconciler.model.traces import Attribute, AttributeValue
from reconciler.reviews import texts
from reconciler.reviews.approvals import decide
from reconciler.reviews.intake import described, ended
from reconciler.reviews.outcome import MergeOutcome
from reconciler.reviews.planner import ReviewPlanner
from reconciler.reviews.row import ReviewChanged, ReviewRow
from reconciler.reviews.target import ReviewTarget, review_url
from reconciler.reviews.verdict import Verdict
from reconciler.source.errors import BranchGone, RefUnknown
from reconciler.state.reviews import NEVER
from reconciler.tracing import span

MAX_CRASHES = 5
"""Processes that may end while they work on one commit; then the review ends without a verdict."""
MAX_FAILURES = 120
"""Failures in a row: more than a day at the longest pause of 15 minutes."""
GIVE_UP_S = 86_400.0
"""A check that cannot be closed for a day is abandoned, with an error in the log."""
KEPT_S = 30 * 86_400.0
"""How long a closed pull request is remembered."""


@dataclass(frozen=True, slots=True)
class ReviewWork:
    """A row with the target to work on."""

    row: ReviewRow
    target: ReviewTarget
    api: ApiClient


class Reviewer:
    """Reviews heads, one step after the other."""

    def __init__(
        self, current: Current, planner: ReviewPlanner, outcome: MergeOutcome, on_end: Callable[[str, float], None]
    ) -> None:
        self._current = current
        self._context = current.context
        self._planner = planner
        self._outcome = outcome
        self.on_end = on_end

    async def step(self, work: ReviewWork) -> None:
        """Do what is due. An error is stored with the time of the next attempt."""
        try:
            await self._advance(work)
        except ReviewChanged:
            return  # it is due again
        except StateError:
            raise
        except ReconcilerError as error:
            await self._failed(work, error)
        except Exception as error:  # an unexpected error must not stop the other reviews
            self._context.log.exception("review_defect", number=work.row.state.number, code="RC9001", error=type(error).__name__)
            await self._failed(work, ReconcilerError(f"a defect of this program: {type(error).__name__}", code="RC9001"))

    async def _advance(self, work: ReviewWork) -> None:
        state = work.row.state
        if state.open_head and (state.open_head != state.head or state.closed):
            await self._close(work)
            state = work.row.state
        if state.closed:
            await self._ended(work)
        elif state.head != state.done_head:
            with span(self._context.tracer, f"review {self._context.config.review.check}", _attributes(state)) as live:
                await self._review(work)
                live.attributes |= {Attribute.CONCLUSION: work.row.state.conclusion}
                if work.row.state.digest:
                    live.attributes[Attribute.DIGEST] = work.row.state.digest
        elif state.wish is not None:
            await self._wished(work)
        elif state.comment_due:
            await self._commented(work)
        elif state.number:
            await work.row.save(state)
        else:  # a merge group that was answered long ago
            await self._context.store.drop_reviews([work.row.key])

    # -- a review -----------------------------------------------------------------------------------------------------

    async def _review(self, work: ReviewWork) -> None:
        now, state = self._context.clock(), work.row.state
        if state.open_head != state.head:
            known = state.check_id if state.check_head == state.head else ""
            state = replace(state, open_head=state.head, shown=False, attempts=0, check_id=known, check_head=state.head)
        if not state.shown:
            state = replace(state, open_since=now)
        crashes = state.attempts
        await work.row.save(replace(state, attempts=crashes + 1), now)
        failpoint("review-after-intent")
        left_s = work.row.state.open_since + self._context.config.review.timeout - now
        if left_s <= 0 or crashes >= MAX_CRASHES:
            reason = "the review took too long" if crashes < MAX_CRASHES else f"the review ended {crashes} processes"
            await self._finish(work, Verdict(Conclusion.TIMED_OUT, reason))
            return
        await self._write(work, texts.opened(state, *self._names))
        if not work.row.state.shown:
            await work.row.save(replace(work.row.state, shown=True), now)
        failpoint("review-after-open")
        try:
            async with asyncio.timeout(left_s):
                verdict = await self._planner.plan(state)
        except TimeoutError:
            verdict = Verdict(Conclusion.TIMED_OUT, "the review took too long")
        except (RefUnknown, BranchGone):
            await self._refresh(work)
            return
        failpoint("review-after-plan")
        await self._finish(work, verdict)

    async def _refresh(self, work: ReviewWork) -> None:
        """The head was replaced: read the pull request again."""
        row, state, now = work.row, work.row.state, self._context.clock()
        if not state.number:  # the queue made another group
            await row.save(replace(state, closed="closed", closed_at=now), now)
            return
        pull = await work.target.pulls.pull(work.api, state.repository, state.number)
        if pull.head == state.head and pull.is_open:
            raise ReconcilerError(f"the head of #{state.number} cannot be fetched yet", code="RC8202", hint="It is tried again.")
        newer = described(state, pull)
        await row.save(newer if pull.is_open else ended(newer, pull, now), now)

    async def _finish(self, work: ReviewWork, verdict: Verdict) -> None:
        state = work.row.state
        context = texts.context_of(state, verdict.base, verdict.behind) if verdict.base else ""
        state = replace(
            state,
            conclusion=verdict.conclusion.value,
            outcome=verdict.outcome,
            plan=verdict.plan,
            context=context,
            digest=verdict.digest,
            blocked=verdict.blocked,
            resources=verdict.resources,
            more_resources=verdict.more_resources,
        )
        report = texts.finished(state, *self._names, context)
        check = await self._write(work, report, annotations=verdict)
        failpoint("review-after-close")
        done = replace(state, check_id=check, check_head=state.head, done_head=state.head, open_head="", attempts=0)
        done = replace(done, comment_due=bool(state.number), failures=0, error="")
        await work.row.save(done, self._context.clock() + (0.0 if state.number else KEPT_S))
        duration_s = max(0.0, self._context.clock() - state.open_since)
        conclusion = (report.conclusion or verdict.conclusion).value
        self.on_end(conclusion, duration_s)
        self._context.log.info(
            "review_finished",
            number=state.number,
            commit=state.head,
            outcome=conclusion,
            duration_ms=round(duration_s * 1000),
        )

    @property
    def _names(self) -> tuple[str, str]:
        return self._context.config.review.check, self._context.owner

    # -- writing ------------------------------------------------------------------------------------------------------

    async def _write(self, work: ReviewWork, report: CheckReport, *, annotations: Verdict | None = None) -> str:
        """Write a check, or the commit status in its place; the id of the check is stored at once."""
        row, state, pulls = work.row, work.row.state, work.target.pulls
        if annotations is not None:
            report = dataclasses.replace(report, annotations=annotations.annotations)
        url = review_url(self._context.config, state)
        report = dataclasses.replace(_redacted(report, self._context.redactor.redact), details_url=url)
        if not work.target.has_checks:
            word = "pending" if report.conclusion is None else texts.STATES[report.conclusion]
            await pulls.status(work.api, CommitState(report.repository, report.head, report.name, word, report.title, url))
            return ""
        known = state.check_id if state.check_head == report.head else ""
        check_id = await pulls.check(work.api, report, known)
        failpoint("review-after-check")
        if check_id != known and report.head == state.head:
            await row.save(replace(state, check_id=check_id, check_head=report.head), self._context.clock())
        return check_id

    async def _commented(self, work: ReviewWork) -> None:
        """Write the comment. A check is complete without it, so that a failure here does not touch the check."""
        state = work.row.state
        comment = await self._comment(work, state, create=state.conclusion != Conclusion.NEUTRAL)
        failpoint("review-after-comment")
        done = replace(state, comment_id=comment, comment_due=False, failures=0, error="")
        await work.row.save(done, NEVER if done.wish is None else self._context.clock())

    async def _comment(self, work: ReviewWork, state: ReviewState, *, create: bool) -> str:
        if not self._context.config.review.comment or not state.number:
            return state.comment_id
        body = texts.comment(state, self._context.owner, state.context, self._outcome.unready(state))
        body = dataclasses.replace(body, body=texts.redacted(body.body, self._context.redactor.redact))
        return await work.target.pulls.comment(work.api, body, state.comment_id, create=create)

    async def _close(self, work: ReviewWork) -> None:
        """End the check of a commit that needs no verdict any more."""
        state = work.row.state
        try:
            await self._write(work, texts.closed(state, *self._names))
        except (NotFound, ValidationFailed) as error:  # the commit or the repository is gone, and its check with it
            self._context.log.info("review_check_gone", number=state.number, commit=state.open_head, error=error.message)
        failpoint("review-after-cancel")
        await work.row.save(replace(state, open_head="", attempts=0), self._context.clock())

    # -- afterwards ---------------------------------------------------------------------------------------------------

    async def _wished(self, work: ReviewWork) -> None:
        state, audit = await decide(self._current, work.target, work.api, work.row.state)
        if state.grant is not None and state.grant != work.row.state.grant:
            await self._write(work, texts.finished(state, *self._names, state.context))
            state = replace(state, comment_due=True)
        failpoint("review-before-grant")
        await work.row.save(state, self._context.clock(), audit=audit)

    async def _ended(self, work: ReviewWork) -> None:
        now, state = self._context.clock(), work.row.state
        if state.closed_at + KEPT_S <= now:
            await self._context.store.drop_reviews([work.row.key])
            return
        if state.closed != "merged" or state.reported or not (state.comment_id or state.comment_due):
            await work.row.save(replace(state, plan="", wish=None), state.closed_at + KEPT_S)
            return
        await self._outcome.advance(work.row, work.target, work.api)

    async def _failed(self, work: ReviewWork, error: ReconcilerError) -> None:
        state, now = work.row.state, self._context.clock()
        failures = state.failures + 1
        fields = {"number": state.number, "commit": state.head, "code": error.code, "error": error.message}
        ends_at = state.open_since + self._context.config.review.timeout
        hopeless = (bool(state.open_head) and now > state.open_since + GIVE_UP_S) or failures > MAX_FAILURES
        kept = replace(state, failures=failures, attempts=max(0, state.attempts - 1), error=error.message[:500])
        try:
            if hopeless:
                self._context.log.error("review_abandoned", **fields)
                abandoned = replace(kept, done_head=state.head, open_head="", comment_due=False, wish=None, failures=0)
                await work.row.save(replace(abandoned, reported=bool(state.closed)), now + KEPT_S if state.closed else NEVER)
                return
            self._context.log.warning("review_retry_scheduled", **fields)
            pause = pause_after(self._context, failures, error)
            due = min(now + pause, ends_at) if state.shown and state.open_head and now < ends_at else now + pause
            await work.row.save(kept, due)
        except ReviewChanged:
            return


def _attributes(state: ReviewState) -> dict[str, AttributeValue]:
    """Return the pull request and the commit that a review is about."""
    known = {
        Attribute.REPOSITORY: state.repository,
        Attribute.CHANGE: str(state.number or ""),
        Attribute.HEAD_REVISION: state.head,
        Attribute.HEAD_NAME: state.ref,
    }
    return {name: value for name, value in known.items() if value}


def _redacted(report: CheckReport, redact: Callable[[str], str]) -> CheckReport:
    """Return ``report`` without the values of secrets: a pull request may contain one that was leaked."""
    notes = tuple(dataclasses.replace(note, message=redact(note.message)) for note in report.annotations)
    title = redact(report.title)
    summary, text = (texts.redacted(part, redact) for part in (report.summary, report.text))
    return dataclasses.replace(report, title=title, summary=summary, text=text, annotations=notes)


__all__ = ["ReviewWork", "Reviewer"]
