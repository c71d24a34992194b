from collections.abc import Iterator

import pytest

from tests.dashboard.watched import Watched


@pytest.fixture(scope="package")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One daemon for all tests of pages."""
    world = Watched(tmp_path_factory.mktemp("watched"))
    try:
        world.begin()
        world.fill()
        yield world
    finally:
        world.close()
