from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """GitHub with three repositories, nothing declared but the Integration."""
    made = World(tmp_path)
    made.repos("one", "two", "three")
    yield made
    made.close()


@pytest.fixture
def wide(tmp_path: Path) -> Iterator[World]:
    """GitHub, Semaphore and Buddy."""
    made = World(tmp_path, ("github", "semaphore", "buddy"))
    made.repos("one", "two", "three")
    yield made
    made.close()
