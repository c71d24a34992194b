"""The standard variables of OpenTelemetry (``OTEL_*``), as values of our keys. Pure.

They count only where telemetry is on, and only for keys that neither the file nor a variable of ours gives. Meanings:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ and …/protocol/exporter/. Times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from reconciler.model.errors import ConfigError

DISABLED = "OTEL_SDK_DISABLED"
_SAMPLERS = {
    "always_on": 1.0,
    "always_off": 0.0,
    "parentbased_always_on": 1.0,
    "parentbased_always_off": 0.0,
}
_BY_RATIO = ("traceidratio", "parentbased_traceidratio")
_TRACES = "OTEL_EXPORTER_OTLP_TRACES_"
_GENERAL = "OTEL_EXPORTER_OTLP_"


@dataclass(frozen=True, slots=True)
class StandardValue:
    """A value that a standard variable gives. ``path``: of our key. ``error``: why it cannot be used."""

    path: str
    variable: str
    value: object = None
    error: str = ""


def is_disabled(env: Mapping[str, str]) -> bool:
    """Whether ``OTEL_SDK_DISABLED`` is true: telemetry stays off, whatever else says that it is on."""
    return env.get(DISABLED, "").strip().lower() == "true"


def standard_values(env: Mapping[str, str]) -> Iterator[StandardValue]:
    """Yield what the standard variables say. An empty variable counts as absent."""
    given = {name: value.strip() for name, value in env.items() if name.startswith("OTEL_") and value.strip()}
    yield from _endpoint(given)
    yield from _exporter(given)
    yield from _resource(given)
    yield from _sampler(given)


def _endpoint(given: Mapping[str, str]) -> Iterator[StandardValue]:
    own = f"{_TRACES}ENDPOINT"
    if own in given:
        yield StandardValue("telemetry.endpoint", own, given[own])
    elif f"{_GENERAL}ENDPOINT" in given:
        yield StandardValue("telemetry.endpoint", f"{_GENERAL}ENDPOINT", given[f"{_GENERAL}ENDPOINT"].rstrip("/") + "/v1/traces")


def _exporter(given: Mapping[str, str]) -> Iterator[StandardValue]:
    for name, wanted in (("PROTOCOL", ("http/protobuf",)), ("COMPRESSION", ("gzip", "none"))):
        variable = _first(given, name)
        if variable and given[variable].lower() not in wanted:
            yield StandardValue("telemetry.endpoint", variable, error=f"must be {' or '.join(wanted)}")
        elif variable and name == "COMPRESSION":
            yield StandardValue("telemetry.compression", variable, given[variable].lower())
    exporter = given.get("OTEL_TRACES_EXPORTER", "otlp")
    if exporter != "otlp":
        yield StandardValue(
            "telemetry.endpoint", "OTEL_TRACES_EXPORTER", error="must be otlp; set telemetry.enabled to false for none"
        )
    variable = _first(given, "HEADERS")
    if variable:
        try:
            yield StandardValue("telemetry.headers", variable, [unquote(pair) for pair in pairs_of(given[variable])])
        except ConfigError as error:
            yield StandardValue("telemetry.headers", variable, error=error.message)
    variable = _first(given, "TIMEOUT")
    if variable and given[variable].isascii() and given[variable].isdigit():
        yield StandardValue("telemetry.timeout", variable, int(given[variable][:9]) / 1000)
    elif variable:
        yield StandardValue("telemetry.timeout", variable, error="must be a number of milliseconds")


def _resource(given: Mapping[str, str]) -> Iterator[StandardValue]:
    attributes = given.get("OTEL_RESOURCE_ATTRIBUTES", "")
    name = given.get("OTEL_SERVICE_NAME", "")
    if attributes:
        try:
            pairs = [unquote(pair) for pair in pairs_of(attributes)]
        except ConfigError as error:
            yield StandardValue("telemetry.attributes", "OTEL_RESOURCE_ATTRIBUTES", error=error.message)
            return
        named = [pair.partition("=")[2] for pair in pairs if pair.startswith("service.name=")]
        kept = [pair for pair in pairs if not pair.startswith("service.name=")]
        yield StandardValue("telemetry.attributes", "OTEL_RESOURCE_ATTRIBUTES", kept)
        if named and not name:
            yield StandardValue("telemetry.serviceName", "OTEL_RESOURCE_ATTRIBUTES", named[-1])
    if name:
        yield StandardValue("telemetry.serviceName", "OTEL_SERVICE_NAME", name)


def _sampler(given: Mapping[str, str]) -> Iterator[StandardValue]:
    variable = "OTEL_TRACES_SAMPLER"
    sampler = given.get(variable, "")
    if sampler in _BY_RATIO:
        yield StandardValue("telemetry.sampleRatio", "OTEL_TRACES_SAMPLER_ARG", given.get("OTEL_TRACES_SAMPLER_ARG", "1.0"))
    elif sampler in _SAMPLERS:
        yield StandardValue("telemetry.sampleRatio", variable, _SAMPLERS[sampler])
    elif sampler:
        known = ", ".join((*_SAMPLERS, *_BY_RATIO))
        yield StandardValue("telemetry.sampleRatio", variable, error=f"must be one of {known}")


def _first(given: Mapping[str, str], name: str) -> str:
    """Return the variable for traces, else the general one; empty if neither is set."""
    return next((variable for variable in (f"{_TRACES}{name}", f"{_GENERAL}{name}") if variable in given), "")


def pairs_of(text: str) -> list[str]:
    """Return the parts of ``name=value,name=value``. Raises `ConfigError`, without a value."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    for number, part in enumerate(parts, 1):
        name, equals, _ = part.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"part {number} must be NAME=VALUE")
    return [f"{name.strip()}={value.strip()}" for name, _, value in (part.partition("=") for part in parts)]


__all__ = ["DISABLED", "StandardValue", "is_disabled", "pairs_of", "standard_values"]
