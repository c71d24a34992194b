"""``notify``: one message through a Notification, by the daemon or, without one, by this process."""

from __future__ import annotations

from reconciler.cli.control import ask
from reconciler.cli.options import NotifyOptions
from reconciler.cli.session import configuration, require_state
from reconciler.cli.sink import out
from reconciler.cli.tables import name_of
from reconciler.model.exit_codes import EXIT_OK
from reconciler.model.views import NotifiedSink

ANSWER_S = 120.0
"""A service that does not answer is given up earlier than this."""


def notify(options: NotifyOptions) -> int:
    """Send a test message. Raises the error of the sink."""
    config = configuration(options)
    require_state(config)
    answer = ask(config, {"verb": "notify_test", "name": options.name}, NotifiedSink, timeout_s=ANSWER_S)
    out(f"sent a test message of {name_of(answer.notification)} to {answer.sink}")
    return EXIT_OK
