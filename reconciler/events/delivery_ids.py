"""Ids under which events are stored: what a person or a sender chooses never meets what the daemon makes. Pure.

A source has one space of ids. So ids of the daemon's own (a schedule's slot, an event made by hand) and keys of users each have
a prefix, and an id that a sender chose is set apart where it begins like one of these.
"""

from __future__ import annotations

SLOT, MANUAL, KEY, SENT = "slot/", "manual/", "key/", "sent/"
_RESERVED = (SLOT, MANUAL, KEY, SENT)
MAX_ID = 200


def slot_id(at: str) -> str:
    """Return the id of the event of a schedule's slot (RFC 3339)."""
    return SLOT + at


def made_id(token: str) -> str:
    """Return the id of an event that was made by hand, without a key."""
    return MANUAL + token


def key_id(key: str) -> str:
    """Return the id of an event that was made by hand with ``key``: equal keys are one event."""
    return KEY + key[:MAX_ID]


def sent_id(delivery_id: str) -> str:
    """Return the id of a delivery whose sender calls it ``delivery_id``."""
    return SENT + delivery_id if delivery_id.startswith(_RESERVED) else delivery_id
