"""``run``: the daemon, or one full pass with ``--once``."""

from __future__ import annotations

import asyncio

from reconciler.cli.options import RunOptions
from reconciler.cli.session import configuration
from reconciler.daemon import main as daemon


def run(options: RunOptions) -> int:
    """Run the daemon, or one pass with ``--once``."""
    config = configuration(options)
    if options.once:
        return asyncio.run(daemon.run_once(config))
    return daemon.serve(config, reload=lambda: configuration(options))
