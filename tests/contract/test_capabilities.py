"""A provider's adapter tells the truth: what it says is missing is missing, and every part of a driver is in the suite."""

from __future__ import annotations

import inspect

import pytest

from reconciler.drivers.registry import DRIVERS
from tests.contract.conftest import PROVIDERS
from tests.contract.provider import Provider

LONGEST = 80


def test_every_driver_is_in_the_suite() -> None:
    assert set(DRIVERS) <= {provider.name for provider in PROVIDERS}


def test_every_part_of_a_driver_is_in_the_suite(provider: Provider) -> None:
    driver = provider.driver
    adapters = [each for each in PROVIDERS if each.driver is driver]
    assert {name for each in adapters for name in each.managed} == set(driver.types)
    if "parts" in provider.lacks:  # another adapter of the driver has them
        return
    assert set(provider.executors) == set(driver.executors)
    assert driver.receiver in (None, *provider.receivers.values())
    assert (driver.reporter is None) is ("reporter" in provider.lacks)


def test_a_capability_that_is_missing_belongs_to_a_part_that_there_is(provider: Provider) -> None:
    parts = {name.partition(":")[2] for name in provider.lacks} - {""}
    assert parts <= {*provider.managed, *provider.executors}
    assert all(provider.lacks.values())


def test_an_adapter_is_short(provider: Provider) -> None:
    source = inspect.getsourcefile(type(provider))
    assert source is not None
    with open(source, encoding="utf-8") as lines:
        if len(lines.readlines()) > LONGEST:
            pytest.fail(f"an adapter has at most {LONGEST} lines: what it does belongs into the suite")
