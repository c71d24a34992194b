"""Requests of the commands about events and executions, decoded once: by the API and by the admin socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from reconciler.model.errors import UsageError

MAX_LIST = 1_000
DEFAULT_LIST = 50
T = TypeVar("T", bound="CommandRequest")


class CommandRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request. A field without a value, or with null, has its default; unknown fields are ignored."""


class ListRequest(CommandRequest, frozen=True):
    """A page of a list, newest first."""

    state: str = ""
    before: str = ""
    """Id to continue from: ``next`` of the previous page."""
    limit: int = DEFAULT_LIST

    @property
    def rows(self) -> int:
        """The number of rows to return: `DEFAULT_LIST` for 0, at most `MAX_LIST`."""
        return max(1, min(MAX_LIST, self.limit or DEFAULT_LIST))


class EventListRequest(ListRequest, frozen=True):
    source: str = ""
    """``NAME`` or ``KIND/NAME``; empty: every source."""


class EventRequest(CommandRequest, frozen=True):
    id: str
    """Our id, the sender's id, or the key that the event was made with."""


class TriggerRequest(CommandRequest, frozen=True):
    source: str
    payload: Mapping[str, Any] = {}
    type: str = ""
    key: str = ""
    """Equal keys make one event."""


class ReplayRequest(CommandRequest, frozen=True):
    id: str


class RedeliverRequest(CommandRequest, frozen=True):
    source: str = ""
    """Empty: every source."""
    since: float = 0.0
    """Seconds to look back; 0: since the last sweep."""


class ExecutionListRequest(ListRequest, frozen=True):
    stage: str = ""
    """Empty: every stage."""


class ExecutionRequest(CommandRequest, frozen=True):
    id: str
    """Of an item or an execution, as in the requests below."""


class ApproveRequest(CommandRequest, frozen=True):
    id: str
    digest: str = ""
    """Digest of the item as it was reviewed; empty: not compared."""


class CancelRequest(CommandRequest, frozen=True):
    id: str


class RerunRequest(CommandRequest, frozen=True):
    id: str
    key: str = ""
    """Equal keys make one repetition."""


def decode_request(kind: type[T], values: Mapping[str, Any]) -> T:
    """Return ``values`` as a ``kind``. Raises `UsageError`, which names the field, for a missing or invalid one."""
    try:
        return msgspec.convert({name: value for name, value in values.items() if value is not None}, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"invalid request: {error}") from None
