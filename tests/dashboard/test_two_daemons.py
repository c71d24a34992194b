"""Two daemons on one PostgreSQL: a person logs in at one, looks at the other, acts at either, and logs out everywhere."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx

from tests.cli.staged import waiting
from tests.dashboard.watched import PEOPLE, Watched, form_of
from tests.support.postgres import Postgres


def test_a_session_is_one_at_all_daemons_until_its_logout_at_any(tmp_path: Path, postgres: Postgres) -> None:
    world = Watched(tmp_path)
    try:
        world.begin(state=f'{{url: "{postgres.database()}"}}')
        other = _second(world)
        world.item = waiting(world)
        with httpx.Client(timeout=30, trust_env=False) as client:
            form = form_of(client.get(f"{world.url}/login").text)
            assert client.post(f"{world.url}/login", data={"form": form, "token": PEOPLE["approver"]}).status_code == 303
            place = f"/executions/{world.item['id']}"
            page = client.get(f"{other}{place}")
            assert page.status_code == 200
            fields = {"id": world.item["id"], "digest": world.item["digest"], "back": place, "form": form_of(page.text)}
            assert client.post(f"{other}/actions/approve", data=fields).status_code == 303
            assert "the-approver" in client.get(f"{world.url}{place}").text
            refused = client.post(f"{world.url}/actions/approve", data=fields)  # sent twice, the second time to the other one
            assert refused.status_code in {409, 422}
            copy = dict(client.cookies)
            assert client.post(f"{other}/logout", data={"form": form_of(client.get(f"{other}/").text)}).status_code == 303
            with httpx.Client(timeout=30, trust_env=False, cookies=copy) as thief:
                assert thief.get(f"{other}/").status_code == 303
                world.wait(lambda: thief.get(f"{world.url}/").status_code == 303, "the logout is known everywhere", 15)
        approvals = [row for row in world.rows() if row["verb"] == "approve"]
        assert [row["actor"] for row in approvals] == ["the-approver"]
    finally:
        world.close()


def _second(world: Watched) -> str:
    """Start another daemon on the same database and master key, with a folder of its own; return its address."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    first = world.config
    (world.folder / "there").mkdir()
    world.config = world.folder / "elsewhere.yaml"
    text = (
        first.read_text()
        .replace("state/status.json", "there/status.json")
        .replace(f"127.0.0.1:{world.port}", f"127.0.0.1:{port}", 1)
    )
    world.config.write_text(f"{text}masterKey: {{file: {world.folder / 'state' / 'master.key'}}}\n")
    world.daemon()
    world.config = first
    url = f"http://127.0.0.1:{port}"
    world.wait(lambda: _is_ready(url), "the second daemon", 60)
    return url


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
