"""Shared by the verbs: configuration, sessions, and whether a daemon already runs on this state."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from reconciler.config.load import load_config
from reconciler.config.settings import Config

T = TypeVar("T")


def configuration(options: argparse.Namespace) -> Config:
    """Return the configuration that ``--config``, ``--repo`` and the environment amount to; raises `ConfigError`."""
    overrides: dict[str, Any] = {}
    if getattr(options, "repo", None):
        overrides["source.url"] = options.repo
    if getattr(options, "log_level", None):
        overrides["log.level"] = options.log_level
    path = Path(options.config) if getattr(options, "config", None) else None
    return load_config(path, os.environ, overrides=overrides)


def configuration_state(config: Config) -> None:
    """Raise `StateError` where nothing ran with this configuration yet."""
    from reconciler.model.errors import StateError

    if not config.state_exists:
        raise StateError(
            f"there is no state at {config.state_dir}",
            code="RC7021",
            hint="Start `reconciler run`, or make one pass with `reconciler run --once`.",
        )


def run_async(main: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine as the whole of a one-shot command."""

    async def whole() -> T:
        return await main()

    return asyncio.run(whole())


def ask_daemon(config: Config, request: Mapping[str, Any], *, timeout_s: float = 30.0) -> Mapping[str, Any] | None:
    """Return the running daemon's answer to ``request``, or None when no daemon runs on this state."""
    from reconciler.server.admin import NoDaemon, call

    try:
        return call(config.state_dir, request, timeout_s=timeout_s)
    except NoDaemon:
        return None
