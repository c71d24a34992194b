"""The program with a shorter minute: ``python -m tests.support.hurried VERB``, with the seconds in ``HURRIED_S``.

A store of secrets is asked at most once a minute, and one that gives no time for the next request after a minute. A test that waits for what the
daemon does by itself waits that long. That it is a minute is tested with a clock that the test turns (`tests/credentials/test_vault.py`,
`tests/aws/test_secrets.py`). A client that does not read its answer is dropped after the same time, if that is less than `connection.READER_S`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from reconciler.drivers import auth

ROOT = Path(__file__).resolve().parent.parent.parent


def environment(seconds: float) -> dict[str, str]:
    """Return what a process needs in its environment to be hurried."""
    return {"HURRIED_S": str(seconds), "PYTHONPATH": str(ROOT)}


def main() -> int:
    seconds = float(os.environ["HURRIED_S"])
    assert auth.RETRY_AFTER_S == 60.0
    auth.RETRY_AFTER_S = seconds  # before other modules take its value
    from reconciler.credentials.remote import RemoteSecrets

    options = RemoteSecrets.__init__.__kwdefaults__
    assert options == {"check_s": 60.0}
    options["check_s"] = seconds
    from reconciler.server import connection

    connection.READER_S = min(connection.READER_S, seconds)
    from reconciler.cli.main import main as program

    return program()


if __name__ == "__main__":
    sys.exit(main())
