"""Shared by the verbs: the configuration, the state, and the daemon that may run on it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from reconciler.cli.options import VerbOptions
from reconciler.config.load import load_config
from reconciler.config.settings import Config


def configuration(options: VerbOptions) -> Config:
    """Return the configuration from ``--config``, ``--repo`` and the environment. Raises `ConfigError`."""
    overrides = {"source.url": options.repo, "log.level": options.log_level}
    path = Path(options.config) if options.config else None
    return load_config(path, os.environ, overrides={key: value for key, value in overrides.items() if value})


def require_state(config: Config) -> None:
    """Raise `StateError` if this configuration has no state yet."""
    from reconciler.model.errors import StateError

    if not config.state_exists:
        raise StateError(
            f"there is no state at {config.state_dir}",
            code="RC7021",
            hint="Start `reconciler run`, or make one pass with `reconciler run --once`.",
        )


def ask_daemon(config: Config, request: Mapping[str, object], *, timeout_s: float = 30.0) -> Mapping[str, object] | None:
    """Return the running daemon's answer to ``request``, or None if no daemon runs on this state."""
    from reconciler.server.admin import NoDaemon, call

    try:
        return call(config.state_dir, request, timeout_s=timeout_s)
    except NoDaemon:
        return None
