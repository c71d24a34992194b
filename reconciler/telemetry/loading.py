"""Loads the libraries of OpenTelemetry, which an extra installs, when telemetry is on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from reconciler.config.settings import Config
from reconciler.model.errors import ConfigError
from reconciler.model.json import Json
from reconciler.model.traces import SpanRecord

INSTALL = "pip install 'integrations-reconciler[otel]'"


class SpanEncoder(Protocol):
    """`reconciler.telemetry.otlp.Encoder`."""

    def body(self, spans: Sequence[SpanRecord]) -> tuple[bytes, int]:
        """Return the body of an export, and how many spans it leaves out."""


def load_encoder(config: Config, instance: str, redact: Callable[[Mapping[str, object]], Mapping[str, Json]]) -> SpanEncoder:
    """Return the encoder. ``instance``: a name of this process. Raises `ConfigError` if the libraries are not installed."""
    try:
        from reconciler.telemetry.otlp import Encoder
    except ImportError as error:
        raise ConfigError(
            f"telemetry.enabled: the libraries of OpenTelemetry are not installed ({error.name})",
            code="RC3012",
            hint=f"Install the extra, {INSTALL}, or set telemetry.enabled to false.",
        ) from None
    telemetry = config.telemetry
    return Encoder(telemetry.service_name, telemetry.attributes, instance, config.owner, redact)


def rejected_of(answer: bytes) -> int:
    """Return how many spans a collector refused, as its answer says."""
    from reconciler.telemetry.otlp import rejected_of as read

    return read(answer)


__all__ = ["INSTALL", "SpanEncoder", "load_encoder", "rejected_of"]
