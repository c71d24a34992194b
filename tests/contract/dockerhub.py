"""Docker Hub in the contract suite: nothing but its credential is managed."""

from __future__ import annotations

from reconciler.drivers.connection import Connection
from reconciler.drivers.registry import DRIVERS
from reconciler.sandbox.app import Simulator
from reconciler.sandbox.dockerhub.app import TOKEN, USER, DockerHub
from reconciler.sandbox.server import SandboxServer
from tests.contract.provider import Provider, with_spec
from tests.support.driving import integration


class DockerHubProvider(Provider):
    driver = DRIVERS["dockerhub"]
    token, url = TOKEN, "https://hub.docker.com"
    lacks = {
        "check": "no manifest needs a right at Docker Hub; tests/dockerhub tries declared permissions",
        "reporter": "Docker Hub is no code host",
    }

    def simulator(self) -> Simulator:
        return DockerHub()

    def connect(self, server: SandboxServer) -> Connection:
        password = {"valueFrom": {"secret": {"name": "credentials", "key": "token"}}}
        declared = with_spec(
            integration(self.name, self.url, server.url),
            {"auth": {"use": "basic", "basic": {"username": USER, "password": password}}},
        )
        return self.driver.connect(declared, declared.secret_refs("/auth"))
