"""What the tests of credentials share: Secret resources and a logger that writes into memory."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from reconciler.credentials.redact import Redactor
from reconciler.log import configure
from reconciler.model.resources import Kind, Location, Resource, ResourceId


def secret(name: str, provider: str, data: dict[str, Any], canvas: str = "default") -> Resource:
    spec = {"provider": provider, "local": {"data": data}} if provider == "local" else {"provider": provider, "data": data}
    return Resource(id=ResourceId(Kind.SECRET.value, canvas, name), spec=spec, location=Location("secrets.yaml", 1, 1))


def by_id(*resources: Resource) -> dict[ResourceId, Resource]:
    return {resource.id: resource for resource in resources}


@pytest.fixture
def logged() -> Iterator[Callable[..., tuple[io.StringIO, Redactor]]]:
    """Configure logging into memory; everything is put back afterwards."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, logging.raiseExceptions)
    quiet = {
        name: (log.handlers[:], log.level, log.propagate)
        for name, log in logging.root.manager.loggerDict.items()
        if isinstance(log, logging.Logger)
    }

    def start(style: str = "json", level: str = "debug") -> tuple[io.StringIO, Redactor]:
        out, redactor = io.StringIO(), Redactor()
        configure(style, level, redactor, stream=out)
        return out, redactor

    yield start
    structlog.reset_defaults()
    root.handlers, logging.raiseExceptions = before[0], before[2]
    root.setLevel(before[1])
    for name, (handlers, level, propagate) in quiet.items():
        log = logging.getLogger(name)
        log.handlers, log.propagate = handlers, propagate
        log.setLevel(level)
