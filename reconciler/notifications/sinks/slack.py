"""Slack: a bot posts one message for each incident and edits it; an incoming webhook posts a second one for the end.

Facts: api.slack.com, methods chat.postMessage, chat.update and conversations.history; message metadata. A refusal is a 200 with
``{"ok": false, "error": …}``. A message has no idempotency key: after an attempt with unknown outcome the channel is searched for the
incident's metadata, which needs the scope ``channels:history`` and a channel given by its id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reconciler.drivers.connection import Api
from reconciler.drivers.wire import find
from reconciler.model.errors import (
    AuthFailed,
    Declined,
    ProviderError,
    ProviderProtocolError,
    ProviderUnavailable,
    RateLimited,
    ValidationFailed,
)
from reconciler.model.incidents import IncidentSeverity, NoticePhase
from reconciler.notifications.message import Message
from reconciler.notifications.sinks.base import HttpEndpoint, Target

API = "https://slack.com/api"
HOSTS = ("slack.com", "hooks.slack.com")
EVENT_TYPE = "reconciler_incident"
SEARCH_PAGES, PAGE = 3, 200
"""How far a channel is searched from `SKEW_S` before the attempt on."""
SKEW_S = 900.0
"""By how much the clock of this host may be ahead of Slack's."""
_COLOURS = {
    IncidentSeverity.INFO: "#5b6b7b",
    IncidentSeverity.WARNING: "#c98a00",
    IncidentSeverity.ERROR: "#c0392b",
    IncidentSeverity.CRITICAL: "#8e1b12",
}
_OVER = "#2e7d4f"
_CREDENTIAL = frozenset({"invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired"})
_NOT_EDITABLE = frozenset({"message_not_found", "cant_update_message", "edit_window_closed", "channel_not_found", "is_inactive"})
_MESSAGE = frozenset(
    {"msg_too_long", "invalid_blocks", "invalid_blocks_format", "no_text", "too_many_attachments", "invalid_attachments"}
)
_HINTS = {
    "channel_not_found": "Write the id of the channel (C…), and invite the bot.",
    "not_in_channel": "Invite the bot to the channel: /invite @BOT.",
    "is_archived": "The channel is archived: choose another.",
    "missing_scope": "The bot needs the scope chat:write.",
    "restricted_action": "A rule of the workspace forbids the bot to post there.",
}


@dataclass(frozen=True, slots=True)
class SlackBot:
    """Implements `Sink` with a bot token. Target: ``channel`` and ``ts`` of the message."""

    api: Api
    root: str
    """Path of the API below the client's origin."""
    token: str
    channel: str
    name = "slack"
    phases = frozenset({NoticePhase.START, NoticePhase.UPDATE, NoticePhase.FLAPPING, NoticePhase.END, NoticePhase.TEST})
    refresh_s = 0.0

    async def send(self, message: Message, target: Target) -> Target:
        if message.instant and message.phase is NoticePhase.END:
            return {}
        if not target and message.attempted_at:
            target = await self._find(message)
        if target:
            try:
                await self._call("chat.update", {"channel": target["channel"], "ts": target["ts"], **self._body(message)})
                return target
            except _SlackRefusal as refused:
                if refused.reason not in _NOT_EDITABLE:
                    raise refused.error from None
        try:
            answer = await self._call("chat.postMessage", {"channel": self.channel, **self._body(message)})
        except _SlackRefusal as refused:
            raise refused.error from None
        return {"channel": str(answer.get("channel") or self.channel), "ts": str(answer["ts"])}

    def _body(self, message: Message) -> dict[str, Any]:
        metadata = {"event_type": EVENT_TYPE, "event_payload": {"incident": message.incident.id}}
        return {**body_of(message), "metadata": metadata, "unfurl_links": False, "unfurl_media": False}

    async def _find(self, message: Message) -> Target:
        """Return the message of an earlier attempt, or nothing: also where the bot may not read the channel."""
        oldest = f"{max(0.0, message.attempted_at - SKEW_S):.6f}"
        params = {"channel": self.channel, "oldest": oldest, "include_all_metadata": "true", "limit": PAGE}
        for _ in range(SEARCH_PAGES):
            try:
                answer = await self._call("conversations.history", params, read=True)
            except _SlackRefusal:
                return {}
            for row in find(answer, list[Any], "messages") or ():
                same = find(row, str, "metadata", "event_payload", "incident") == message.incident.id
                if same and (ts := find(row, str, "ts")):
                    return {"channel": self.channel, "ts": ts}
            cursor = find(answer, str, "response_metadata", "next_cursor")
            if not cursor:
                return {}
            params["cursor"] = cursor
        return {}

    async def _call(self, method: str, body: dict[str, Any], *, read: bool = False) -> dict[str, Any]:
        path, headers = f"{self.root}/{method}", {"authorization": f"Bearer {self.token}"}
        if read:
            response = await self.api.request("GET", path, params=body, headers=headers)
        else:
            response = await HttpEndpoint(self.api, path, "Slack").post(body, headers=headers)
        answer = response.json()
        if not isinstance(answer, dict) or not isinstance(answer.get("ok"), bool):
            raise ProviderProtocolError(f"Slack: the answer to {method} has no `ok`", status=response.status, code="RC8101")
        if not answer["ok"]:
            reason = str(answer.get("error") or "unknown")[:60]
            raise _SlackRefusal(reason, _error(method, reason, response.status))
        if method == "chat.postMessage" and not isinstance(answer.get("ts"), str):
            raise ProviderProtocolError(f"Slack: the answer to {method} has no `ts`", status=response.status, code="RC8101")
        return answer


class _SlackRefusal(Exception):
    """A 200 that says no."""

    def __init__(self, reason: str, error: ProviderError) -> None:
        super().__init__(reason)
        self.reason, self.error = reason, error


def _error(method: str, reason: str, status: int) -> ProviderError:
    text = f"Slack refused {method}: {reason}"
    if reason in _CREDENTIAL:
        return AuthFailed(text, status=status, request=method, code="RC8102", hint="Replace the token in the Secret.")
    if reason == "ratelimited":
        return RateLimited(text, status=status, request=method)
    if reason in {"internal_error", "fatal_error", "service_unavailable", "request_timeout"}:
        return ProviderUnavailable(text, status=status, request=method)
    if reason in _MESSAGE:
        return ValidationFailed(text, status=status, request=method, code="RC8103")
    return Declined(text, status=status, request=method, code="RC8103", hint=_HINTS.get(reason, ""))


@dataclass(frozen=True, slots=True)
class SlackHook:
    """Implements `Sink` with an incoming webhook, which edits nothing."""

    endpoint: HttpEndpoint
    name = "slack"
    phases = frozenset({NoticePhase.START, NoticePhase.FLAPPING, NoticePhase.END, NoticePhase.TEST})
    refresh_s = 0.0

    async def send(self, message: Message, target: Target) -> Target:
        if message.instant and message.phase is NoticePhase.END:
            return {}
        response = await self.endpoint.post(body_of(message))
        if response.text.strip() != "ok":
            raise ProviderProtocolError(
                f"Slack: the incoming webhook answered {response.status} without `ok`", status=response.status, code="RC8101"
            )
        return {}


def body_of(message: Message) -> dict[str, Any]:
    """Return text and blocks. Foreign text is in fields of the type ``plain_text``, which has no markup, or escaped."""
    over = message.phase is NoticePhase.END or message.instant
    lines = "\n".join(f"{label}: {value}" for label, value in message.lines)
    blocks: list[dict[str, Any]] = [_section(message.headline)]
    if message.text:
        blocks.append(_section(message.text))
    blocks.append({"type": "context", "elements": [_plain(lines)]})
    if message.url:
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": f"<{_link(message.url)}|Open>"}})
    return {
        "text": escaped(message.headline),
        "mrkdwn": False,
        "attachments": [
            {"color": _OVER if over else _COLOURS[message.severity], "fallback": escaped(message.headline), "blocks": blocks}
        ],
    }


def escaped(text: str) -> str:
    """Return ``text`` for a field with markup: no mention, no link (Slack's three characters)."""
    for plain, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(plain, entity)
    return text


def _link(url: str) -> str:
    return escaped(url).replace("|", "%7C")


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _plain(text)}


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text[:2_900], "emoji": False}


__all__ = ["API", "HOSTS", "SlackBot", "SlackHook", "body_of", "escaped"]
