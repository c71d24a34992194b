"""Spinnaker in the contract suite: nothing but its credential is managed."""

from __future__ import annotations

from reconciler.drivers.registry import DRIVERS
from reconciler.sandbox.app import Simulator
from reconciler.sandbox.spinnaker.app import TOKEN, Spinnaker
from tests.contract.provider import Provider


class SpinnakerProvider(Provider):
    driver = DRIVERS["spinnaker"]
    token, url = TOKEN, "https://gate.example.com:8084"
    lacks = {
        "check": "Gate does not tell what a role may do",
        "reporter": "Spinnaker is no code host",
    }

    def simulator(self) -> Simulator:
        return Spinnaker()
