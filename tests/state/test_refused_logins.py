"""A PostgreSQL server that refuses the login: the error says what it answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.model.errors import StateError
from reconciler.state import Store
from tests.support.postgres import Postgres


@pytest.mark.parametrize(
    ("part", "wrong", "answer"),
    [
        ("postgres@", "stranger:secret-word@", 'role "stranger" does not exist'),
        ("/test_", "/missing_", "database \"missing_[0-9a-z_]+\" does not exist"),
    ],
)  # fmt: skip
def test_a_refused_login_is_not_reported_as_a_server_that_is_down(
    postgres: Postgres, tmp_path: Path, part: str, wrong: str, answer: str
) -> None:
    url = postgres.database()
    assert part in url, url
    with pytest.raises(StateError, match=f"the database refuses the connection: {answer}") as caught:
        Store.open(url.replace(part, wrong), state_dir=tmp_path, create=True)
    assert caught.value.code == "RC7007"
    assert "state.url" in caught.value.hint
    assert "secret-word" not in str(caught.value)
