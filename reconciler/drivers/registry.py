"""The drivers of this version: one line each. A driver is imported when it is asked for, so that commands start fast."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import cast

from reconciler.drivers.base import Driver

_MODULES = {
    "github": "reconciler.drivers.github.driver",
    "semaphore": "reconciler.drivers.semaphore.driver",
    "buddy": "reconciler.drivers.buddy.driver",
    "dockerhub": "reconciler.drivers.dockerhub.driver",
    "gitlab": "reconciler.drivers.gitlab.driver",
    "newrelic": "reconciler.drivers.newrelic.driver",
    "digitalocean": "reconciler.drivers.digitalocean.driver",
    "azure": "reconciler.drivers.azure.driver",
    "google": "reconciler.drivers.google.driver",
    "aws": "reconciler.drivers.aws.driver",
    "spinnaker": "reconciler.drivers.spinnaker.driver",
    "http": "reconciler.drivers.builtin.driver",
}


@cache
def driver_for(provider: str) -> Driver | None:
    """Return the driver of ``provider``, or None if this version has none."""
    module = _MODULES.get(provider)
    return cast("Driver", importlib.import_module(module).driver) if module is not None else None


class _Drivers(Mapping[str, Driver]):
    """Every driver by provider; reading an entry imports it."""

    def __getitem__(self, provider: str) -> Driver:
        driver = driver_for(provider)
        if driver is None:
            raise KeyError(provider)
        return driver

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


DRIVERS: Mapping[str, Driver] = _Drivers()
