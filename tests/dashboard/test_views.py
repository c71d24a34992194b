"""Pages that depend on what the status document happens to contain."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from reconciler.model.status_document import CredentialRow, RateRow
from reconciler.server import dashboard
from reconciler.server.dashboard.views import Views

TEMPLATES = Path(dashboard.__file__).parent / "templates"


def test_credentials_that_end_at_the_same_time_are_shown() -> None:
    def row(name: str, end: str) -> CredentialRow:
        return CredentialRow(name, True, "bot", end, (), RateRow(None, None, None))

    rows = (row("b", "2026-03-02T00:00:00Z"), row("a", "2026-03-02T00:00:00Z"), row("c", "2026-03-01T00:00:00Z"), row("d", ""))

    async def status() -> Any:
        return SimpleNamespace(credentials=rows)

    page = asyncio.run(Views(SimpleNamespace(status=status)).credentials({}, {}))  # type: ignore[arg-type]
    assert [row.name for row in page.values["calendar"]] == ["c", "a", "b"]


def test_every_link_of_a_template_begins_with_the_path_of_the_public_url() -> None:
    files = sorted(TEMPLATES.glob("*.html"))
    assert len(files) > 10
    bare = {file.name: found for file in files if (found := re.findall(r'(?:href|src|action)="/[^"]*', file.read_text()))}
    assert bare == {}
