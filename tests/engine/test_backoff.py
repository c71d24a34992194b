"""How long a stage waits after a failure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from reconciler.config.settings import Config
from reconciler.engine.backoff import REFUSED_S, pause_after
from reconciler.model.errors import ProviderUnavailable, SecretUnavailable

DEPS: Any = SimpleNamespace(config=Config(), clock=lambda: 0.0)


def test_a_stage_tries_a_failed_store_every_minute_and_a_failed_provider_ever_more_rarely() -> None:
    assert pause_after(DEPS, 1, SecretUnavailable("sealed")) < 5
    assert pause_after(DEPS, 12, SecretUnavailable("sealed")) == REFUSED_S
    assert pause_after(DEPS, 12, ProviderUnavailable("503")) > 600
