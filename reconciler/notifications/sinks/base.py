"""What a sink is, and how it calls an HTTP service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from reconciler.drivers.auth import ApiResponse
from reconciler.drivers.connection import Api
from reconciler.drivers.http.errors import is_page
from reconciler.model.errors import ProviderError, ProviderProtocolError
from reconciler.model.incidents import NoticePhase
from reconciler.notifications.message import Message

Target = Mapping[str, str]
"""What a sink returned for the first message of an incident: where to edit it."""
ALL = frozenset(NoticePhase)


class Sink(Protocol):
    """One destination."""

    @property
    def name(self) -> str:
        """Its key in the manifest."""

    @property
    def phases(self) -> frozenset[NoticePhase]:
        """Phases that have a message of their own."""

    @property
    def refresh_s(self) -> float:
        """How often an open incident is reported again, because the service forgets it; 0 for never."""

    async def send(self, message: Message, target: Target) -> Target:
        """Send or edit. Returns what later messages of the incident need, or an empty mapping. Raises typed errors.

        If `Message.attempted_at` is set, an earlier attempt may have been received.
        """


class PartlySent(ProviderError):
    """Some of the recipients have the message. ``target``: the recipients of the next attempt; ``lasting``: it would be refused too."""

    code = "RC8109"

    def __init__(self, message: str, *, target: Target, lasting: bool) -> None:
        super().__init__(message, hint="Check `to` in the manifest." if lasting else "")
        self.target, self.lasting = target, lasting


@dataclass(frozen=True, slots=True)
class HttpEndpoint:
    """A URL of a service, split into the origin (bound to ``api``) and the path."""

    api: Api
    path: str
    name: str
    """What errors call the service."""

    async def post(self, body: Any, *, headers: Mapping[str, str] | None = None) -> ApiResponse:
        """Send ``body``. Raises `ProviderProtocolError` for an HTML page: a login page or a proxy has answered."""
        response = await self.api.request("POST", self.path, json=body, headers=headers)
        if is_page(response):
            raise ProviderProtocolError(
                f"{self.name} answered {response.status} with an HTML page",
                status=response.status,
                request=response.request,
                code="RC8101",
                hint="A proxy or a login page may answer in place of the service. Check the URL.",
            )
        return response


__all__ = ["ALL", "HttpEndpoint", "PartlySent", "Sink", "Target"]
