"""Google Cloud in the contract suite: nothing but its credential is managed."""

from __future__ import annotations

from reconciler.drivers.registry import DRIVERS
from reconciler.sandbox.app import Simulator
from reconciler.sandbox.google.app import Google
from tests.contract.provider import Provider


class GoogleProvider(Provider):
    driver = DRIVERS["google"]
    lacks = {
        "credential": "a key file, or an ID token, is not one token: see tests/google",
        "check": "roles are not read",
        "reporter": "Google Cloud is no code host",
    }

    def simulator(self) -> Simulator:
        return Google()
