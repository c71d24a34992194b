"""The contract suite runs over every provider, and there over its managed types, executors and receivers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from reconciler.drivers.http.client import HttpSession
from reconciler.sandbox.server import SandboxServer
from tests.contract.aws import AwsProvider
from tests.contract.azure import AzureProvider
from tests.contract.buddy import BuddyProvider
from tests.contract.builtin import BuiltinProvider
from tests.contract.digitalocean import DigitalOceanProvider
from tests.contract.dockerhub import DockerHubProvider
from tests.contract.github import GitHubProvider
from tests.contract.github_app import GitHubAppProvider
from tests.contract.gitlab import GitLabProvider
from tests.contract.google import GoogleProvider
from tests.contract.newrelic import NewRelicProvider
from tests.contract.provider import Provider
from tests.contract.semaphore import SemaphoreProvider
from tests.contract.spinnaker import SpinnakerProvider
from tests.support.driving import World, client, session
from tests.support.receiving import receiver

PROVIDERS: tuple[Provider, ...] = (
    GitHubProvider(),
    GitHubAppProvider(),
    SemaphoreProvider(),
    BuddyProvider(),
    BuiltinProvider(),
    DigitalOceanProvider(),
    DockerHubProvider(),
    GitLabProvider(),
    NewRelicProvider(),
    AwsProvider(),
    AzureProvider(),
    GoogleProvider(),
    SpinnakerProvider(),
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``type_name``, ``executor_name`` or ``receiver_name`` runs for each that a provider has.

    ``@pytest.mark.needs(capability)`` leaves out the providers that lack it (`Provider.lacks` says why).
    """
    parts: dict[str, Iterable[tuple[Provider, str]]] = {
        "type_name": [(provider, name) for provider in PROVIDERS for name in provider.managed],
        "executor_name": [(provider, name) for provider in PROVIDERS for name in provider.executors],
        "receiver_name": [(provider, name) for provider in PROVIDERS for name in provider.receivers],
    }
    needs = [str(mark.args[0]) for mark in metafunc.definition.iter_markers("needs")]
    for argument, rows in parts.items():
        if argument in metafunc.fixturenames:
            metafunc.parametrize(
                ("provider", argument), [pytest.param(*row, id=row[1]) for row in rows if row[0].has(needs, row[1])]
            )
            return
    if "provider" in metafunc.fixturenames:
        metafunc.parametrize("provider", [pytest.param(one, id=one.name) for one in PROVIDERS if one.has(needs)])


@pytest.fixture
def server(provider: Provider) -> Iterator[SandboxServer]:
    with SandboxServer(provider.simulator()) as running:
        provider.prepare(running)
        running.admin.clear_requests()
        yield running


@pytest.fixture
def world(provider: Provider, server: SandboxServer, session: HttpSession) -> World:
    values = provider.values
    return World(provider.driver, client(provider.driver, provider.connect(server), session, values), values)


__all__ = ["receiver", "session"]
