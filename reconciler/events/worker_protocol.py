"""Messages between the daemon and the worker process: the first part of each request, as JSON, and the answer to a condition."""

from __future__ import annotations

from typing import Any

import msgspec

from reconciler.model.events import Event
from reconciler.model.values import JsonObject

encode_message = msgspec.json.Encoder().encode


class WireMessage(msgspec.Struct, frozen=True, tag_field="do", tag="wire"):
    """Keep the wiring of a revision; the resources follow, one in each part. The answer has no part."""

    revision: str


class HoldsMessage(msgspec.Struct, frozen=True, tag_field="do", tag="holds"):
    """Evaluate a condition over the JSON document in the second part. The answer is a `HoldsAnswer`."""

    expression: str


class JobMessage(msgspec.Struct, frozen=True):
    """A `RoutingJob` without its body."""

    event: Event
    integration: str
    through: tuple[str, ...]
    skip: tuple[str, ...]


class RouteMessage(msgspec.Struct, frozen=True, tag_field="do", tag="route"):
    """Route ``jobs``, whose bodies follow. The answer has a part for each job, in order: a `Routing` or a `DefectAnswer`."""

    now: float
    last: tuple[tuple[str, tuple[str, ...], JsonObject | None], ...]
    """(path of the stage, results that count, inputs of its last execution with one of them)."""
    jobs: tuple[JobMessage, ...]


class HoldsAnswer(msgspec.Struct, frozen=True):
    """``error``: why the condition cannot be evaluated; empty if it can."""

    holds: bool = False
    error: str = ""


class DefectAnswer(msgspec.Struct, frozen=True):
    """An event whose routing raised an unexpected error."""

    defect: str = ""
    """Name of the error's class."""


Message = WireMessage | HoldsMessage | RouteMessage
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Message)


def decode_message(head: bytes) -> Message:
    """Return the message whose first part is ``head``."""
    message: Message = _decoder.decode(head)
    return message
