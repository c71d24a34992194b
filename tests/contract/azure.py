"""Azure in the contract suite: nothing but its credential is managed."""

from __future__ import annotations

from reconciler.drivers.registry import DRIVERS
from reconciler.sandbox.app import Simulator
from reconciler.sandbox.azure.app import Azure
from tests.contract.provider import Provider


class AzureProvider(Provider):
    driver = DRIVERS["azure"]
    lacks = {
        "credential": "an application and its secret, or an ID token, is not one token: see tests/azure",
        "check": "roles on resources are not read",
        "reporter": "Azure is no code host",
    }

    def simulator(self) -> Simulator:
        return Azure()
