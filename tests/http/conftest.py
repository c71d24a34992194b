import pytest

from reconciler.drivers.http.client import HttpSession
from tests.http.world import FAST, Fixture


@pytest.fixture
async def http():
    async with HttpSession(allow=("127.0.0.0/8",), bounds=FAST) as session:
        yield Fixture(session)
