"""A simulated Slack: messages of a bot, their edits, the history of a channel, and incoming webhooks.

Facts: api.slack.com. A refusal of the Web API is a 200 with ``{"ok": false, "error": …}``; too many requests are a 429 with
``Retry-After``. State: ``tokens`` (``{TOKEN: {"scopes": [...]}}``), ``channels`` (by id: ``name``, ``member``, ``archived``),
``hooks`` (path below ``/services/`` → id of a channel) and ``messages`` (by channel). With the setting ``rate_limits`` a channel takes one
message a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from reconciler.sandbox.app import Call, RefusedCall, Reply, Route, Simulator, SlidingLimit
from reconciler.sandbox.shapes import is_object

TOKEN = "xoxb-" + "sandbox-" + "0" * 12  # opens nothing but this simulator
HOOK = "T0SANDBOX/B0SANDBOX/" + "x" * 24
CHANNEL = "C0SANDBOX01"
MAX_TEXT, MAX_BLOCK_TEXT, MAX_BLOCKS, MAX_ATTACHMENTS = 40_000, 3_000, 50, 100
_BLOCKS = frozenset({"section", "context", "divider", "header", "actions"})


def _no(error: str) -> Reply:
    return Reply(200, {"ok": False, "error": error})


class Slack(Simulator):
    """Implements `reconciler.sandbox.app.Simulator`."""

    provider = "slack"

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._limits: dict[str, SlidingLimit] = {}
        super().__init__(clock=clock)

    def seed(self) -> dict[str, object]:
        scopes = ["chat:write", "channels:history"]
        return {
            "tokens": {TOKEN: {"scopes": scopes}},
            "channels": {CHANNEL: {"name": "ops", "member": True, "archived": False}},
            "hooks": {HOOK: CHANNEL},
            "messages": {CHANNEL: []},
        }

    def routes(self) -> Iterable[Route]:
        return [
            ("POST", "/api/chat.postMessage", self._post),
            ("POST", "/api/chat.update", self._update),
            ("GET", "/api/conversations.history", self._history_of),
            ("POST", "/services/{team}/{app}/{key}", self._hook),
        ]

    def not_found(self, call: Call) -> Reply:
        return _no("unknown_method") if call.path.startswith("/api/") else Reply(404, "no_team")

    # -- the Web API ------------------------------------------------------------------------------------------------

    def _post(self, call: Call) -> Reply:
        body = self._body(call, "chat:write")
        channel = self._channel(body.get("channel"), by_name=True)
        _check_content(body)
        self._pace(channel)
        message = self._message(channel, body)
        return Reply(
            200, {"ok": True, "channel": channel, "ts": message["ts"], "message": {"text": message["text"], "ts": message["ts"]}}
        )

    def _update(self, call: Call) -> Reply:
        body = self._body(call, "chat:write")
        channel = self._channel(body.get("channel"), by_name=False)
        _check_content(body)
        message = next((row for row in self._messages(channel) if row["ts"] == body.get("ts")), None)
        if message is None:
            return _no("message_not_found")
        if message["bot"] != "token":
            return _no("cant_update_message")
        message["edits"] = cast("int", message["edits"]) + 1
        message |= _content(body)
        return Reply(200, {"ok": True, "channel": channel, "ts": message["ts"], "text": message["text"]})

    def _history_of(self, call: Call) -> Reply:
        self._token(call, "channels:history")
        channel = self._channel(call.query.get("channel"), by_name=False)
        oldest = float(call.query.get("oldest") or 0)
        shown = call.query.get("include_all_metadata") == "true"
        # With `oldest` and without `latest`, Slack pages from the oldest on; each page has its newest first.
        start = int(call.query.get("cursor") or 0)
        rows = [row for row in self._messages(channel) if float(str(row["ts"])) > oldest][start:]
        limit = int(call.query.get("limit") or 100)
        if not 1 <= limit <= 999:
            return _no("invalid_limit")
        fields = ("ts", "text", "attachments", *(("metadata",) if shown else ()))
        return Reply(
            200,
            {
                "ok": True,
                "messages": [{k: row[k] for k in fields if k in row} for row in reversed(rows[:limit])],
                "has_more": len(rows) > limit,
                "response_metadata": {"next_cursor": str(start + limit) if len(rows) > limit else ""},
            },
        )

    def _body(self, call: Call, scope: str) -> dict[str, Any]:
        self._token(call, scope)
        if "application/json" not in call.headers.get("content-type", ""):
            raise RefusedCall(_no("invalid_form_data"))
        try:
            body = call.json()
        except ValueError:
            raise RefusedCall(_no("invalid_json")) from None
        if not is_object(body):
            raise RefusedCall(_no("json_not_object"))
        return body

    def _token(self, call: Call, scope: str) -> None:
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        known = cast("dict[str, dict[str, list[str]]]", self.state["tokens"]).get(token)
        if not token or scheme != "Bearer":
            raise RefusedCall(_no("not_authed"))
        if known is None:
            raise RefusedCall(_no("invalid_auth"))
        if scope not in known["scopes"]:
            raise RefusedCall(
                Reply(200, {"ok": False, "error": "missing_scope", "needed": scope, "provided": ",".join(known["scopes"])})
            )

    def _channel(self, name: object, *, by_name: bool) -> str:
        """Return the id. Only chat.postMessage takes a name."""
        channels = cast("dict[str, dict[str, object]]", self.state["channels"])
        named = {f"#{row['name']}": key for key, row in channels.items()} if by_name else {}
        channel = name if name in channels else named.get(str(name))
        if not isinstance(channel, str):
            raise RefusedCall(_no("channel_not_found"))
        if channels[channel].get("archived"):
            raise RefusedCall(_no("is_archived"))
        if not channels[channel].get("member"):
            raise RefusedCall(_no("not_in_channel"))
        return channel

    # -- incoming webhooks ------------------------------------------------------------------------------------------

    def _hook(self, call: Call, team: str, app: str, key: str) -> Reply:
        channel = cast("dict[str, str]", self.state["hooks"]).get(f"{team}/{app}/{key}")
        if channel is None:
            return Reply(404, "no_service")
        try:
            body = call.json()
        except ValueError:
            return Reply(400, "invalid_payload")
        if not is_object(body):
            return Reply(400, "invalid_payload")
        try:
            _check_content(body)
        except RefusedCall as refused:
            return Reply(400, str(cast("dict[str, object]", refused.reply.body)["error"]))
        self._pace(channel)
        self._message(channel, body, bot="hook")
        return Reply(200, "ok")

    # -- messages ---------------------------------------------------------------------------------------------------

    def _messages(self, channel: str) -> list[dict[str, object]]:
        return cast("dict[str, list[dict[str, object]]]", self.state["messages"]).setdefault(channel, [])

    def _message(self, channel: str, body: Mapping[str, Any], bot: str = "token") -> dict[str, object]:
        ts = f"{self.clock():.0f}.{self.next_id():06d}"
        message: dict[str, object] = {"ts": ts, "bot": bot, "edits": 0, **_content(body)}
        self._messages(channel).append(message)
        return message

    def _pace(self, channel: str) -> None:
        if not self.settings["rate_limits"]:
            return
        wait_s = self._limits.setdefault(channel, SlidingLimit(1, 1.0)).take(self.clock())
        if wait_s:
            raise RefusedCall(Reply(429, {"ok": False, "error": "ratelimited"}, {"retry-after": "1"}))


def _content(body: Mapping[str, Any]) -> dict[str, object]:
    return {key: body[key] for key in ("text", "blocks", "attachments", "metadata") if key in body} | {
        "text": body.get("text", "")
    }


def _check_content(body: Mapping[str, Any]) -> None:
    text, blocks, attachments = body.get("text"), body.get("blocks"), body.get("attachments")
    if not text and not blocks and not attachments:
        raise RefusedCall(_no("no_text"))
    if text is not None and (not isinstance(text, str) or len(text) > MAX_TEXT):
        raise RefusedCall(_no("msg_too_long"))
    if attachments is not None and (not isinstance(attachments, list) or len(attachments) > MAX_ATTACHMENTS):
        raise RefusedCall(_no("too_many_attachments"))
    for group in (blocks, *(row.get("blocks") if is_object(row) else None for row in attachments or ())):
        if group is not None and not _are_blocks(group):
            raise RefusedCall(_no("invalid_blocks"))
    metadata = body.get("metadata")
    if metadata is not None and not (
        is_object(metadata) and isinstance(metadata.get("event_type"), str) and is_object(metadata.get("event_payload"))
    ):
        raise RefusedCall(_no("invalid_metadata_format"))


def _are_blocks(group: object) -> bool:
    return isinstance(group, list) and len(group) <= MAX_BLOCKS and all(is_object(row) and _is_block(row) for row in group)


def _is_block(block: Mapping[str, Any]) -> bool:
    kind = block.get("type")
    if kind not in _BLOCKS:
        return False
    if kind == "section":
        return _is_text(block.get("text"))
    if kind == "context":
        elements = block.get("elements")
        return isinstance(elements, list) and 1 <= len(elements) <= 10 and all(map(_is_text, elements))
    return True


def _is_text(text: object) -> bool:
    if not is_object(text) or text.get("type") not in {"plain_text", "mrkdwn"}:
        return False
    words = text.get("text")
    return isinstance(words, str) and 1 <= len(words) <= MAX_BLOCK_TEXT and ("emoji" not in text or text["type"] == "plain_text")
