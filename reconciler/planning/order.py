"""A total, stable order of changes: after their dependencies, deletes before them, otherwise by address."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence

from reconciler.model.plan import Action, Change
from reconciler.model.values import Address

_REMOVING = frozenset({Action.DELETE, Action.FORGET})


def ordered(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Return ``changes`` in the order of execution: creates and updates, then removals (dependants first)."""
    changes = tuple(changes)
    making = [change for change in changes if change.action not in _REMOVING]
    removing = [change for change in changes if change.action in _REMOVING]
    users: dict[Address, list[Address]] = {}
    for change in removing:
        for need in change.depends_on:
            users.setdefault(need, []).append(change.address)
    return (*_topological(making, {c.address: c.depends_on for c in making}), *_topological(removing, users))


def _topological(changes: Sequence[Change], after: Mapping[Address, Sequence[Address]]) -> tuple[Change, ...]:
    """Sort so that each change follows those named for it in ``after``; ties, and any cycle, by address."""
    by_address = {change.address: change for change in changes}
    waiting = {
        address: {need for need in after.get(address, ()) if need in by_address and need != address} for address in by_address
    }
    followers: dict[Address, list[Address]] = {}
    for address, needs in waiting.items():
        for need in needs:
            followers.setdefault(need, []).append(address)
    ready = [address for address, needs in waiting.items() if not needs]
    heapq.heapify(ready)
    done: list[Change] = []
    while waiting:
        address = heapq.heappop(ready) if ready else min(waiting)  # manifests refuse cycles; a cycle must not block a plan
        if waiting.pop(address, None) is None:
            continue
        done.append(by_address[address])
        for follower in followers.get(address, ()):
            if follower in waiting:
                waiting[follower].discard(address)
                if not waiting[follower]:
                    heapq.heappush(ready, follower)
    return tuple(done)
