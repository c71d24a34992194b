"""The demo's steps with a chat: one message for one cause, edited when it is over, and a test message."""

from __future__ import annotations

import msgspec

from reconciler.cli.demo.accounts import CHANNEL, TOKENS, rights
from reconciler.cli.demo.script import Script, expect, wait_for
from reconciler.cli.demo.shapes import SlackMessage, SlackRows
from reconciler.cli.demo.world import DemoWorld

PROVIDER = "buddy"
_LEFT_OUT = ("<", "Severity:", "Topic:", "Reason:")
"""Lines of a message that the demo does not show: the link to the dashboard, and labels."""


class ChatMessages:
    """Plays the steps in order. The daemon must run, and all resources must be Ready."""

    def __init__(self, world: DemoWorld, script: Script) -> None:
        self._world = world
        self._script = script
        self._rights: object = None
        self._chat = world.providers["slack"].admin

    def play(self) -> None:
        """Let a credential die and work again; send a test message."""
        self._script.part("A notification starts and ends")
        sent = self._die()
        self._live(sent)
        self._test()

    def _die(self) -> SlackMessage:
        server, title = self._world.providers[PROVIDER], f"Integration/{PROVIDER}"
        text = "the token of Buddy is revoked: one message in Slack"
        with self._script.step(text, "reconciler credentials") as notes:
            self._rights = rights(server)
            server.admin.put_state({"tokens": {TOKENS[PROVIDER]: None}})
            sent = wait_for("a message about the credential", lambda: self._about(title))
            expect(not sent.text.startswith("Over"), f"the message says: {sent.text}")
            notes.quote(*_lines(sent))
            return sent

    def _live(self, sent: SlackMessage) -> None:
        server = self._world.providers[PROVIDER]
        text = "the token works again: the daemon edits the same message"
        with self._script.step(text, f"reconciler reconcile Integration/{PROVIDER}") as notes:
            server.admin.put_state({"tokens": {TOKENS[PROVIDER]: self._rights}})
            self._world.cli("reconcile", f"Integration/{PROVIDER}")
            over = wait_for("the end of the incident in Slack", lambda: self._message(sent.ts, "Over: "))
            expect(over.edits > sent.edits, "the message was not edited")
            wait_for("all resources Ready", self._world.all_ready)
            notes.quote(*(line for line in _lines(over) if line.startswith(("Over:", "From:", "To:"))))

    def _test(self) -> None:
        with self._script.step("reconciler notify test ops: a test message arrives") as notes:
            done = self._world.cli("notify", "test", "ops")
            expect(done.returncode == 0, f"it exited with {done.returncode}: {done.stderr.strip()}")
            test = wait_for("the test message", lambda: self._about("Test: "))
            notes.quote(test.text)

    # -- in the channel -----------------------------------------------------------------------------------------------

    def _messages(self) -> list[SlackMessage]:
        return msgspec.convert(self._chat.state(), SlackRows).messages.get(CHANNEL, [])

    def _about(self, words: str) -> SlackMessage | None:
        about = [row for row in self._messages() if words in row.text]
        expect(len(about) <= 1, f"there are {len(about)} messages about {words}")
        return about[0] if about else None

    def _message(self, ts: str, beginning: str) -> SlackMessage | None:
        return next((row for row in self._messages() if row.ts == ts and row.text.startswith(beginning)), None)


def _lines(message: SlackMessage) -> list[str]:
    """Return the lines of a message, its headline first."""
    blocks = [block for part in message.attachments for block in part.blocks]
    fields = [field for block in blocks for field in ((block.text,) if block.text is not None else block.elements)]
    return [line for field in fields for line in field.text.splitlines() if not line.startswith(_LEFT_OUT)]
