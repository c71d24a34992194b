"""How long a stage waits before it asks a provider again."""

from __future__ import annotations

import random

from reconciler.engine.context import Context
from reconciler.model.errors import ProviderError, ReconcilerError


def pause_after(context: Context, failures: int, error: ReconcilerError | None = None) -> float:
    """Return the seconds until the next try after ``failures`` failed ones: doubled each time, not before ``error`` allows it."""
    config = context.config.reconcile
    pause: float = min(config.retry_max, max(1.0, config.retry_min) * 2 ** min(failures, 20)) * random.uniform(0.8, 1.0)  # noqa: S311 - jitter
    if isinstance(error, ProviderError) and error.retry_at is not None:
        pause = max(pause, error.retry_at - context.clock())
    return pause


__all__ = ["pause_after"]
