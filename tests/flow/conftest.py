from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.stage_world import StageWorld


@pytest.fixture
def world(tmp_path: Path) -> Iterator[StageWorld]:
    """GitHub alone."""
    made = StageWorld(tmp_path)
    yield made
    made.close()


@pytest.fixture
def wide(tmp_path: Path) -> Iterator[StageWorld]:
    """GitHub, Semaphore and Buddy."""
    made = StageWorld(tmp_path, ("github", "semaphore", "buddy"))
    yield made
    made.close()
