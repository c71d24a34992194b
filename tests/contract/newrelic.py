"""New Relic in the contract suite: nothing but its credential is managed."""

from __future__ import annotations

from reconciler.drivers.registry import DRIVERS
from reconciler.sandbox.app import Simulator
from reconciler.sandbox.newrelic.app import TOKEN, NewRelic
from tests.contract.provider import Provider


class NewRelicProvider(Provider):
    driver = DRIVERS["newrelic"]
    token, url = TOKEN, "https://one.newrelic.com"
    lacks = {
        "check": "New Relic tells no rights",
        "reporter": "New Relic is no code host",
    }

    def simulator(self) -> Simulator:
        return NewRelic()
