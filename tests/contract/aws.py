"""AWS in the contract suite: nothing but its credential is managed."""

from __future__ import annotations

from reconciler.drivers.registry import DRIVERS
from reconciler.sandbox.app import Simulator
from tests.contract.provider import Provider


class AwsProvider(Provider):
    driver = DRIVERS["aws"]
    lacks = {
        "credential": "requests are signed with a pair of keys and sessions, not with one token: see tests/aws",
        "check": "no call tells what a credential may do",
        "reporter": "AWS is no code host",
    }

    def simulator(self) -> Simulator:
        return Simulator()
