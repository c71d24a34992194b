from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.stage_world import StageWorld
from tests.support.collector import Collector


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture
def world(tmp_path: Path, collector: Collector) -> Iterator[StageWorld]:
    """GitHub alone, and a daemon that exports its traces."""
    made = StageWorld(tmp_path)
    made.configure(telemetry=f"{{enabled: true, endpoint: '{collector.url}'}}")
    yield made
    made.close()
