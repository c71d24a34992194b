"""A GitHub simulator over HTTP, and the driver connected to it."""

import pytest

from reconciler.drivers.base import Write
from reconciler.drivers.connection import CompileContext
from reconciler.drivers.github.driver import driver
from reconciler.model.objects import Scope
from reconciler.model.resources import Location, Resource, ResourceId, SecretRef
from reconciler.model.secrets import SecretValue
from reconciler.model.values import Fingerprint
from reconciler.sandbox.server import SandboxServer, simulator
from tests.support.sandbox import client, connected

TOKEN = "ghp_sandbox"
REF = SecretRef("default", "github", "token")
INTEGRATION = Resource(
    ResourceId("Integration", "default", "github"),
    {
        "type": "github",
        "url": "https://github.com/acme",
        "auth": {"use": "token", "token": {"valueFrom": {"secret": {"name": "github", "key": "token"}}}},
    },
    Location("github.yaml", 1),
)
SCOPE = Scope("github/repository-webhook", "acme/payments")
ORG = Scope("github/organization-webhook", "acme")
SECRET = "signing-key-canary-5f1e"


def source(name="payments", lifecycle=None, **spec):
    spec = {"integration": {"name": "github"}, "resource": {"type": "repository", "name": "payments"}, **spec}
    options = {} if lifecycle is None else {"lifecycle": lifecycle}
    return Resource(
        ResourceId("EventSource", "default", name), spec, Location("s.yaml", 3), references=(INTEGRATION.id,), **options
    )


@pytest.fixture
def github():
    with SandboxServer(simulator("github")) as server:
        yield server


@pytest.fixture
def connection(github):
    return connected(driver, INTEGRATION, github.url, {"/token": REF})


@pytest.fixture
async def api(connection):
    async with client(driver, connection, TOKEN) as opened:
        yield opened


@pytest.fixture
def compiled(connection):
    def run(resource, facts=None, **options):
        context = CompileContext(
            owner="team",
            public_url="https://hooks.example.org",
            key_id="k1",
            connection=connection,
            facts=facts or {},
            fingerprint=lambda address, pointer, ref: Fingerprint(f"ref:{ref}"),
            **options,
        )
        return driver.compile(resource, context)

    return run


@pytest.fixture
def write(compiled):
    def run(resource=None, secret=SECRET, **attributes):
        desired = compiled(resource or source())[0]
        return Write(desired, {**desired.attributes, **attributes}, {"/config/secret": SecretValue(secret)})

    return run


def stored(github, scope="payments"):
    """The hooks as the simulator keeps them, secrets and all."""
    state = github.admin.state()
    key = f"repos/{state['repos'][f'acme/{scope}']['id']}" if f"acme/{scope}" in state["repos"] else scope
    return state["hooks"].get(key, [])


def foreign(number, url="https://ci.example.net/hook", events=("push",)):
    return {
        "id": number,
        "events": list(events),
        "config": {"url": f"{url}/{number}", "content_type": "json", "insecure_ssl": "0"},
    }


def put_hooks(github, hooks, scope="payments"):
    key = f"repos/{github.admin.state()['repos'][f'acme/{scope}']['id']}"
    github.admin.put_state({"hooks": {key: hooks}})
