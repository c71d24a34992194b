"""DigitalOcean in the contract suite: nothing but its credential is managed."""

from __future__ import annotations

from reconciler.drivers.registry import DRIVERS
from reconciler.sandbox.app import Simulator
from reconciler.sandbox.digitalocean.app import TOKEN, DigitalOcean
from tests.contract.provider import Provider


class DigitalOceanProvider(Provider):
    driver = DRIVERS["digitalocean"]
    token, url = TOKEN, "https://cloud.digitalocean.com"
    lacks = {
        "check": "only the permission to read the account is used, and a check that is refused it is an error",
        "reporter": "DigitalOcean is no code host",
    }

    def simulator(self) -> Simulator:
        return DigitalOcean()
