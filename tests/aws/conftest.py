"""Fixtures of the simulated AWS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.drivers.http.client import HttpSession
from tests.aws.cloud import Cloud, simulated
from tests.support.driving import session


@pytest.fixture
def cloud(session: HttpSession) -> Iterator[Cloud]:
    with simulated() as (server, issuer):
        yield Cloud(server, issuer, session)


__all__ = ["session"]
