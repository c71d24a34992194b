"""Ids under which events are stored. Ids from persons and senders never collide with those of the daemon. Pure.

All events of a source share one space of ids. So the slots of schedules, triggered events and keys of users have a prefix each, and
an id from a sender gets a prefix, too, if it starts with one of these.
"""

from __future__ import annotations

SLOT, MANUAL, KEY, SENT = "slot/", "manual/", "key/", "sent/"
_RESERVED = (SLOT, MANUAL, KEY, SENT)
MAX_ID = 200


def slot_id(at: str) -> str:
    """Return the id of the event of a schedule's slot (RFC 3339)."""
    return SLOT + at


def made_id(token: str) -> str:
    """Return the id of an event that was triggered without a key."""
    return MANUAL + token


def key_id(key: str) -> str:
    """Return the id of an event that was triggered with ``key``: equal keys are the same event."""
    return KEY + key[:MAX_ID]


def sent_id(delivery_id: str) -> str:
    """Return the id of a delivery with the sender's id ``delivery_id``."""
    return SENT + delivery_id if delivery_id.startswith(_RESERVED) else delivery_id
