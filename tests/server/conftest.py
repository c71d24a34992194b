from collections.abc import Iterator

import pytest

from tests.server.asked import Asked


@pytest.fixture(scope="package")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """One daemon for all tests that only ask it for things."""
    made = Asked(tmp_path_factory.mktemp("asked"))
    made.begin()
    yield made
    made.close()
