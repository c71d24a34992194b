"""Names: the only place on a Semaphore object that can bear our marker."""

from __future__ import annotations

import re

from reconciler.model.errors import ValidationFailed
from reconciler.model.objects import Marker
from reconciler.model.values import Uid

_NAME = re.compile(r"^reconciler-(?P<owner>.+)-(?P<uid>[0-9a-f]{20}(?:-r[1-9][0-9]{0,8})?)\Z")
_ALLOWED = re.compile(r"^[@: -._a-zA-Z0-9]+\Z")  # secrethub; the class holds the range from space to full stop
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


def rotated(uid: Uid, rotation: int) -> Uid:
    """Return the uid part of a secret's name: each rotation of a key is an object of its own."""
    return Uid(f"{uid}-r{rotation}") if rotation else uid


def name_of(marker: Marker) -> str:
    """Return the object name that bears ``marker``.

    Raises `ValidationFailed` for an owner that the provider refuses in a name: one that holds a UUID (any such name is
    taken for an id), or characters that a secret's name may not have.
    """
    name = f"reconciler-{marker.owner}-{marker.uid}"
    if _UUID.search(name):
        raise ValidationFailed(
            f"the owner '{marker.owner}' makes a name that holds a UUID, which Semaphore takes for an id",
            hint="Set `owner` in the configuration to a name without a UUID.",
        )
    if not _ALLOWED.match(name):
        raise ValidationFailed(
            f"the owner '{marker.owner}' has characters that Semaphore allows in no name",
            hint="Set `owner` in the configuration to letters, digits, dots, dashes and underscores.",
        )
    return name


def marker_of(name: str) -> Marker | None:
    """Return the marker in an object's name, or None for a name that is not ours."""
    found = _NAME.match(name)
    return Marker(found["owner"], Uid(found["uid"])) if found else None
