"""Process signals as events, and systemd's notify protocol."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator

EXTEND_S = 120.0
"""More time for a start that takes long; asked for again long before it is over."""


class SystemdNotifier:
    """sd_notify(3): READY, STOPPING, RELOADING, WATCHDOG. Does nothing without NOTIFY_SOCKET."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        watchdog = os.environ.get("WATCHDOG_USEC", "")
        self.watchdog_s = int(watchdog) / 2_000_000 if watchdog.isdigit() else 0.0

    def send(self, *lines: str) -> None:
        """Send the lines as one datagram; a missing supervisor is not an error."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.sendto("\n".join(lines).encode(), address)


@contextlib.contextmanager
def longer_start() -> Iterator[None]:
    """Keep systemd from ending a start that goes on longer than its timeout (EXTEND_TIMEOUT_USEC), for the time of the block.

    A thread does so: what takes long, a migration of the state, blocks the one that calls it.
    """
    notifier, done = SystemdNotifier(), threading.Event()

    def extend() -> None:
        while True:
            notifier.send(f"EXTEND_TIMEOUT_USEC={int(EXTEND_S * 1_000_000)}")
            if done.wait(EXTEND_S / 4):
                return

    thread = threading.Thread(target=extend, name="longer-start", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class Signals:
    """TERM and INT drain, a second one exits at once; HUP reloads; USR1 reconciles now."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.reload = asyncio.Event()
        self.now = asyncio.Event()
        self.number = 0

    def install(self) -> None:
        """Install the handlers on the running loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._leave, number)
        loop.add_signal_handler(signal.SIGHUP, self.reload.set)
        loop.add_signal_handler(signal.SIGUSR1, self.now.set)

    def _leave(self, number: int) -> None:
        if self.stop.is_set():
            os._exit(128 + number)
        self.number = number
        self.stop.set()
