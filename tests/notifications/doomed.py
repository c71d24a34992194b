"""Forks a process for each line of its input, which shows statuses, sends messages, and is killed at a failpoint.

A line is JSON: ``config``, ``environment`` (variables; null removes one), ``failpoint`` (``name:n``) or empty, ``kill_after_s``. The answer
is the exit status. Everything is imported once, so that a process costs little.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from reconciler import failpoints
from reconciler.config.load import load_config
from reconciler.daemon.session import Options, open_session
from reconciler.notifications.outbox import NotificationOutbox


async def live(order: dict[str, Any]) -> None:
    config = load_config(Path(order["config"]), os.environ)
    async with open_session(config, Options(actor="test")) as session:
        outbox = NotificationOutbox(session.engine.current, holder="test")
        await session.engine.sync()
        await session.engine.finish_pass()
        await outbox.settle(20)


def child(order: dict[str, Any]) -> None:
    for name, value in order["environment"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    failpoints._ENABLED = bool(order["failpoint"])
    failpoints._NAME, _, failpoints._COUNT = order["failpoint"].partition(":")
    if order["kill_after_s"]:
        threading.Thread(target=_kill, args=(order["kill_after_s"],), daemon=True).start()
    asyncio.run(live(order))


def _kill(after_s: float) -> None:
    time.sleep(after_s)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                child(order)
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
