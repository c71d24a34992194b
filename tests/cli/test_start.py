"""What a start does not load: a package that only some configurations, or a later request, need costs nobody else its time and memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.world import World

DAEMON = (
    "import reconciler.cli.run, reconciler.daemon.servers, reconciler.reviews.loop, uvicorn, reconciler.server.connection\n"
    "from reconciler.drivers.registry import driver_for\n"
    "driver_for('github')\n"
)
COMMAND = "import reconciler.cli.main, reconciler.cli.parser\n"
VALIDATE = "import reconciler.cli.validate\n"
BY_A_PAGE = {"jinja2", "markupsafe"}
BY_AN_OLDER_STATE = {"alembic", "mako", "pygments"}
BY_A_KEY = {"joserfc", "cryptography.x509", "pyrage", "botocore", "boto3"}
BY_POSTGRESQL = {"psycopg"}
BY_AN_ENGINE = {"sqlalchemy", "aiohttp", "httpx", "starlette", "uvicorn", "apscheduler", "structlog", "prometheus_client", "git"}


@pytest.mark.parametrize(
    ("code", "unneeded"),
    [
        (DAEMON, BY_A_PAGE | BY_AN_OLDER_STATE | BY_A_KEY | BY_POSTGRESQL),
        (VALIDATE, BY_A_PAGE | BY_AN_OLDER_STATE | BY_A_KEY | BY_POSTGRESQL | BY_AN_ENGINE),
        (COMMAND, BY_A_PAGE | BY_AN_OLDER_STATE | BY_A_KEY | BY_POSTGRESQL | BY_AN_ENGINE | {"msgspec", "yaml", "asyncio"}),
    ],
    ids=["daemon", "validate", "any command"],
)
def test_a_start_loads_no_package_that_it_does_not_need(code: str, unneeded: set[str]) -> None:
    found = subprocess.run(
        [sys.executable, "-c", f"{code}import sys\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert unneeded & set(found) == set()


def loaded_by(world: World, *command: str) -> set[str]:
    done = world.cli(*command, env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def test_a_pass_over_a_new_state_needs_no_migration_and_what_only_reads_the_state_no_engine(tmp_path: Path) -> None:
    world = World(tmp_path)
    try:
        world.repos("one")
        world.source("one")
        passed = loaded_by(world, "run", "--once")
        assert "sqlalchemy" in passed
        assert (BY_A_PAGE | BY_AN_OLDER_STATE | BY_A_KEY | BY_POSTGRESQL) & passed == set()
        assert loaded_by(world, "status") & BY_AN_ENGINE == set()
        for verb in (("history",), ("explain", "EventSource/one"), ("signing-key", "EventSource/one")):
            assert loaded_by(world, *verb) & BY_AN_ENGINE == {"sqlalchemy"}, verb
    finally:
        world.close()
