"""The product's daemon with its commits counted: ``python -m benchmarks.counting FILE VERB …``.

``FILE`` holds two numbers at any time: commits that changed the state, and those that changed the engine's tables.
"""

from __future__ import annotations

import mmap
import sqlite3
import struct
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from reconciler.cli.main import main

COUNTS = struct.Struct("qq")


def watch(file: Path) -> None:
    """Count the commits of every database of this process; one that changed nothing writes nothing and is left out."""
    file.write_bytes(bytes(COUNTS.size))
    with file.open("r+b") as opened:
        shown = mmap.mmap(opened.fileno(), COUNTS.size)
    found = [0, 0]

    @event.listens_for(Engine, "commit")
    def _committing(connection: Any) -> None:
        raw = connection.connection.dbapi_connection
        if isinstance(raw, sqlite3.Connection):
            changes = raw.total_changes
            if changes != connection.info.get("changes", 0):
                connection.info["changes"] = changes
                found[0 if str(connection.engine.url).endswith("state.db") else 1] += 1
                shown[:] = COUNTS.pack(*found)


def read(file: Path) -> tuple[int, int]:
    """Return the commits until now: of the state, of the engine's tables."""
    state, engine = COUNTS.unpack(file.read_bytes())
    return int(state), int(engine)


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
