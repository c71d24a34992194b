"""The store as the event loop uses it: each method runs on the state thread and is awaited.

`reconciler.state.store.Store` holds the SQL and is synchronous, so that one method is one transaction. Only what the daemon and the
commands call is listed here; a new method of the store needs one line.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from reconciler.state.store import Store
from reconciler.state.thread import StateThread

P = ParamSpec("P")
R = TypeVar("R")


def _on_thread(method: Callable[Concatenate[Store, P], R]) -> Callable[Concatenate[AsyncStore, P], Coroutine[Any, Any, R]]:
    """Return the awaitable form of a method of `Store`."""
    name = method.__name__

    @functools.wraps(method)
    async def call(self: AsyncStore, /, *args: P.args, **kwargs: P.kwargs) -> R:
        bound: Callable[..., R] = getattr(self.sync, name)
        return await self.thread(bound, *args, **kwargs)

    return call


class AsyncStore:
    """A `Store` and its thread. Raises what the store raises; a cancelled caller does not cancel the commit."""

    def __init__(self, store: Store, thread: StateThread) -> None:
        self.sync = store
        """The synchronous store, for a function that makes several calls in one `run`."""
        self.thread = thread

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self.sync.dialect

    async def run(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a function on the state thread: several calls of `sync`, or work on the disk."""
        return await self.thread(call, *args, **kwargs)

    # `reconciler.state.store`
    checkpoint = _on_thread(Store.checkpoint)
    get_meta = _on_thread(Store.get_meta)
    set_meta = _on_thread(Store.set_meta)

    # `reconciler.state.activity`
    activity = _on_thread(Store.activity)

    # `reconciler.state.objects`
    begin = _on_thread(Store.begin)
    forget = _on_thread(Store.forget)
    integrations_recorded = _on_thread(Store.integrations_recorded)
    mark_seen = _on_thread(Store.mark_seen)
    record = _on_thread(Store.record)
    record_and_forget = _on_thread(Store.record_and_forget)
    recorded = _on_thread(Store.recorded)
    settle = _on_thread(Store.settle)
    settle_intents = _on_thread(Store.settle_intents)
    unsettled = _on_thread(Store.unsettled)

    # `reconciler.state.oidc_keys`
    add_oidc_key = _on_thread(Store.add_oidc_key)
    oidc_keys = _on_thread(Store.oidc_keys)
    reseal_oidc_keys = _on_thread(Store.reseal_oidc_keys)

    # `reconciler.state.credentials`
    announce = _on_thread(Store.announce)
    credential_alert = _on_thread(Store.credential_alert)
    forget_refusals = _on_thread(Store.forget_refusals)
    refusal_of = _on_thread(Store.refusal_of)
    refuse_credential = _on_thread(Store.refuse_credential)
    standing_refusal = _on_thread(Store.standing_refusal)

    # `reconciler.state.reviews`
    drop_reviews = _on_thread(Store.drop_reviews)
    due_reviews = _on_thread(Store.due_reviews)
    restored_at = _on_thread(Store.restored_at)
    schema_conflict = _on_thread(Store.schema_conflict)
    open_reviews = _on_thread(Store.open_reviews)
    newest_reviews = _on_thread(Store.newest_reviews)
    review = _on_thread(Store.review)
    review_of_check = _on_thread(Store.review_of_check)
    save_review = _on_thread(Store.save_review)

    # `reconciler.state.sessions`
    end_session = _on_thread(Store.end_session)
    ended_sessions = _on_thread(Store.ended_sessions)

    # `reconciler.state.statuses`
    drop_resources = _on_thread(Store.drop_resources)
    generations = _on_thread(Store.generations)
    resources = _on_thread(Store.resources)
    retries = _on_thread(Store.retries)
    save_resources = _on_thread(Store.save_resources)
    save_retries = _on_thread(Store.save_retries)
    save_statuses = _on_thread(Store.save_statuses)
    statuses = _on_thread(Store.statuses)
    statuses_mark = _on_thread(Store.statuses_mark)

    # `reconciler.state.observations`
    connections = _on_thread(Store.connections)
    drop_connection = _on_thread(Store.drop_connection)
    load_budget = _on_thread(Store.load_budget)
    observations = _on_thread(Store.observations)
    save_budget = _on_thread(Store.save_budget)
    save_connection = _on_thread(Store.save_connection)
    save_observations = _on_thread(Store.save_observations)

    # `reconciler.state.backlog`
    backlog = _on_thread(Store.backlog)

    # `reconciler.state.approvals`
    approvals = _on_thread(Store.approvals)
    approve = _on_thread(Store.approve)
    approve_all = _on_thread(Store.approve_all)
    suspend = _on_thread(Store.suspend)
    suspensions = _on_thread(Store.suspensions)
    unsuspend = _on_thread(Store.unsuspend)

    # `reconciler.state.journal`
    journal = _on_thread(Store.journal)
    journal_of = _on_thread(Store.journal_of)
    prune_history = _on_thread(Store.prune_history)

    # `reconciler.state.inbox`
    add_events = _on_thread(Store.add_events)
    cursors = _on_thread(Store.cursors)
    event = _on_thread(Store.event)
    event_counts = _on_thread(Store.event_counts)
    events = _on_thread(Store.events)
    events_end = _on_thread(Store.events_end)
    get_cursor = _on_thread(Store.get_cursor)
    known_deliveries = _on_thread(Store.known_deliveries)
    last_arrivals = _on_thread(Store.last_arrivals)
    pending_events = _on_thread(Store.pending_events)
    prune_events = _on_thread(Store.prune_events)
    rejections = _on_thread(Store.rejections)
    replay_event = _on_thread(Store.replay_event)
    set_cursors = _on_thread(Store.set_cursors)

    # `reconciler.state.attempts`
    begin_attempts = _on_thread(Store.begin_attempts)
    forget_attempts = _on_thread(Store.forget_attempts)
    suspect = _on_thread(Store.suspect)

    # `reconciler.state.routing`
    settle_events = _on_thread(Store.settle_events)
    stages_behind = _on_thread(Store.stages_behind)

    # `reconciler.state.joins`
    end_joins = _on_thread(Store.end_joins)
    next_join_end = _on_thread(Store.next_join_end)

    # `reconciler.state.queue`
    add_vote = _on_thread(Store.add_vote)
    admit = _on_thread(Store.admit)
    candidates = _on_thread(Store.candidates)
    counts = _on_thread(Store.counts)
    discard_item = _on_thread(Store.discard_item)
    effects_of = _on_thread(Store.effects_of)
    finish_execution = _on_thread(Store.finish_execution)
    item = _on_thread(Store.item)
    items = _on_thread(Store.items)
    items_of_event = _on_thread(Store.items_of_event)
    origins_of = _on_thread(Store.origins_of)
    pinned = _on_thread(Store.pinned)
    prune_executions = _on_thread(Store.prune_executions)
    queue_repetition = _on_thread(Store.queue_repetition)
    stages_with_items = _on_thread(Store.stages_with_items)
    votes = _on_thread(Store.votes)
    votes_of = _on_thread(Store.votes_of)

    # `reconciler.state.executions`
    ask_cancel = _on_thread(Store.ask_cancel)
    execution = _on_thread(Store.execution)
    executions = _on_thread(Store.executions)
    executions_of_item = _on_thread(Store.executions_of_item)
    finished_before = _on_thread(Store.finished_before)
    hasten_executions = _on_thread(Store.hasten_executions)
    hint = _on_thread(Store.hint)
    hint_again = _on_thread(Store.hint_again)
    last_executions = _on_thread(Store.last_executions)
    last_inputs = _on_thread(Store.last_inputs)
    outputs = _on_thread(Store.outputs)
    put_outputs = _on_thread(Store.put_outputs)
    save_execution = _on_thread(Store.save_execution)

    # `reconciler.state.requests`
    drop_request = _on_thread(Store.drop_request)
    finish_reconcile = _on_thread(Store.finish_reconcile)
    note_reconcile = _on_thread(Store.note_reconcile)
    reconciled_by = _on_thread(Store.reconciled_by)
    request_reconciles = _on_thread(Store.request_reconciles)
    requested = _on_thread(Store.requested)

    # `reconciler.state.claims`
    claim_work = _on_thread(Store.claim_work)
    notify = _on_thread(Store.notify)

    # `reconciler.state.reports`
    due_reports = _on_thread(Store.due_reports)
    end_report = _on_thread(Store.end_report)
    hasten_reports = _on_thread(Store.hasten_reports)
    put_off_report = _on_thread(Store.put_off_report)
    reports_of = _on_thread(Store.reports_of)

    # `reconciler.state.incidents`
    add_occurrences = _on_thread(Store.add_occurrences)
    has_occurrences = _on_thread(Store.has_occurrences)
    prune_incidents = _on_thread(Store.prune_incidents)
    sink_records = _on_thread(Store.sink_records)
    update_incidents = _on_thread(Store.update_incidents)
    waiting_notices = _on_thread(Store.waiting_notices)

    # `reconciler.state.notices`
    abandon_notice = _on_thread(Store.abandon_notice)
    due_notice = _on_thread(Store.due_notice)
    due_sinks = _on_thread(Store.due_sinks)
    due_former_sinks = _on_thread(Store.due_former_sinks)
    end_notice = _on_thread(Store.end_notice)
    hasten_notices = _on_thread(Store.hasten_notices)
    next_due = _on_thread(Store.next_due)
    note_attempt = _on_thread(Store.note_attempt)
    put_off_notice = _on_thread(Store.put_off_notice)
    skip_notice = _on_thread(Store.skip_notice)

    # `reconciler.state.notice_log`
    done_messages = _on_thread(Store.done_messages)
    open_incidents = _on_thread(Store.open_incidents)
    waiting_messages = _on_thread(Store.waiting_messages)

    # `reconciler.state.spans`
    count_spans = _on_thread(Store.count_spans)
    drop_spans = _on_thread(Store.drop_spans)
    trim_spans = _on_thread(Store.trim_spans)
    waiting_spans = _on_thread(Store.waiting_spans)

    # `reconciler.state.audit`
    append_audit = _on_thread(Store.append_audit)
    audit_tail = _on_thread(Store.audit_tail)
    audit_head = _on_thread(Store.audit_head)
    keep_anchor = _on_thread(Store.keep_anchor)
    kept_anchor = _on_thread(Store.kept_anchor)
    verify_some = _on_thread(Store.verify_some)

    # `reconciler.state.leases`
    acquire_lease = _on_thread(Store.acquire_lease)
    beat = _on_thread(Store.beat)
    dead_executors = _on_thread(Store.dead_executors)
    release_lease = _on_thread(Store.release_lease)
    release_leases_of = _on_thread(Store.release_leases_of)
    remove_executor = _on_thread(Store.remove_executor)

    # `reconciler.state.database`
    now = _on_thread(Store.now)

    # `reconciler.state.clock_shift`
    look_at_clock = _on_thread(Store.look_at_clock)
