from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.state import Store


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(url, state_dir=tmp_path)
    yield opened
    opened.close()
