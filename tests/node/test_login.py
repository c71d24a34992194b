"""Login to the dashboard by a real OpenID provider (oidc-provider): code flow with PKCE, state and nonce."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest
import yaml

from tests.cli.staged import started
from tests.dashboard.watched import Watched, form_of
from tests.docs.pages import ROOT
from tests.node.conftest import Start

SECRET = "canary-client-secret-51ce+/:"
_ACTION = re.compile(r'<form[^>]*action="([^"]+)"')
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)"')
ROLES = (
    "[{claim: groups, value: release-managers, role: approver}, {claim: groups, value: platform, role: operator}, "
    "{claim: sub, value: nobody, role: viewer}]"
)


AnyWorld = TypeVar("AnyWorld", "Reached", "ExampleLogin")


class Reached(Watched):
    """Its login is at a provider on loopback."""

    def prepare(self, issuer: str, port: int) -> None:
        """Start the daemon."""
        self.url = f"http://127.0.0.1:{port}"
        (self.folder / "client.secret").write_text(SECRET + "\n")
        login = f'{{oidc: {{issuer: "{issuer}", clientId: board, clientSecretFile: client.secret, roles: {ROLES}}}}}'
        self.configure(server=f'{{listen: "127.0.0.1:{port}", publicUrl: "{self.url}", login: {login}}}')
        self.write("hand.yaml", "kind: EventSource\nmetadata: {name: hand}\nspec: {type: manual}")
        self.daemon()
        self.wait(self.all_ready, "the first pass", 60)


class ExampleLogin(Watched):
    """`examples/dashboard-login` as it stands; only the addresses and the file of the client secret are others."""

    def prepare(self, issuer: str, port: int) -> None:
        """Start the daemon."""
        self.url = f"http://127.0.0.1:{port}"
        folder = ROOT / "examples" / "dashboard-login"
        server = yaml.safe_load((folder / "reconciler.yaml").read_text())["server"]
        server |= {"listen": f"127.0.0.1:{port}", "publicUrl": self.url}
        server["login"]["oidc"] |= {"issuer": issuer, "clientId": "board", "clientSecretFile": "client.secret"}
        (self.folder / "client.secret").write_text(SECRET + "\n")
        self.configure(server=json.dumps(server))
        self.write("stages.yaml", (folder / "stages.yaml").read_text())
        started(self)


def _port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.fixture
def reached(tmp_path: Path, start: Start) -> Iterator[Reached]:
    with _beside_a_provider(Reached(tmp_path), start) as world:
        yield world


@contextmanager
def _beside_a_provider(world: AnyWorld, start: Start) -> Iterator[AnyWorld]:
    """Start the provider and the daemon."""
    own, theirs = _port(), _port()
    issuer = f"http://127.0.0.1:{theirs}"
    redirect = f"http://127.0.0.1:{own}/login/oidc/callback"
    try:
        with start(
            "provider.mjs", issuer=issuer, port=theirs, clientId="board", clientSecret=SECRET, redirectUri=redirect
        ) as client:
            assert client.line() == {"listening": theirs}
            world.prepare(issuer, own)
            yield world
    finally:
        world.close()


def _callback(client: httpx.Client, person: str, back: str = "/audit") -> str:
    """Log in at the provider, as a person does, and return the address to which it sends the browser."""
    answer = client.get("/login/oidc", params={"back": back})
    for _ in range(20):
        if answer.is_redirect:
            place = urljoin(str(answer.url), answer.headers["location"])
            if urlsplit(place).path == "/login/oidc/callback":
                return place
            answer = client.get(place)
            continue
        form = dict(_HIDDEN.findall(answer.text))
        fields = {**form, **({"login": person, "password": "x"} if form.get("prompt") == "login" else {})}
        answer = client.post(urljoin(str(answer.url), _ACTION.findall(answer.text)[0]), data=fields)
    raise AssertionError(answer.text[:2_000])


def test_people_log_in_with_the_role_of_their_groups_and_act_under_their_own_name(reached: Reached) -> None:
    with reached.browser_of() as client:
        assert client.get("/").headers["location"] == "/login"
        assert 'name="token"' not in client.get("/login").text
        answer = client.get(_callback(client, "otto"))
        assert answer.status_code == 200, answer.text
        assert 'content="0;url=/audit"' in answer.text
        cookie = next(text for text in answer.headers.get_list("set-cookie") if "Max-Age=43200" in text)
        assert "SameSite=strict" in cookie
        page = client.get("/audit").text
        assert "oidc:otto" in page  # the provider did not verify the address
        done = reached.act(client, "suspend", "/", kind="EventSource", name="hand", reason="holiday")
        assert done.status_code == 303, done.text
        assert reached.act(client, "approve_plan", "/", digest="sha256:" + "0" * 64).status_code == 403
    with reached.browser_of() as client:
        client.get(_callback(client, "ada"))
        assert "ada@example.com" in client.get("/").text
        assert reached.act(client, "approve_plan", "/", digest="sha256:" + "0" * 64).status_code == 404
        assert client.post("/logout", data={"form": form_of(client.get("/").text)}).status_code == 303
        assert client.get("/").status_code == 303
    assert '"oidc:otto"' in reached.cli("history", "-o", "json").stdout
    for text in (reached.log(), str(reached.status())):
        assert "canary-" not in text


def _queued(world: Watched) -> dict[str, Any] | None:
    rows = json.loads(world.cli("executions", "-o", "json").stdout)["queued"]
    return next((row for row in rows if row["reason"] == "approval"), None)


def test_the_example_lets_only_the_named_people_approve_under_their_own_name(tmp_path: Path, start: Start) -> None:
    with _beside_a_provider(ExampleLogin(tmp_path), start) as world:
        assert world.cli("trigger", "release").returncode == 0
        item = world.wait(lambda: _queued(world), "the item waits for its approval")
        place, fields = f"/executions/{item['id']}", {"id": item["id"], "digest": item["digest"]}
        with world.browser_of() as client:
            client.get(_callback(client, "otto"))
            assert world.act(client, "approve", place, **fields).status_code == 403
        with world.browser_of() as client:
            client.get(_callback(client, "ada"))
            assert world.act(client, "approve", place, **fields).status_code == 303
            assert "ada@example.com" in client.get("/audit").text


def test_a_person_without_a_role_gets_no_session(reached: Reached) -> None:
    with reached.browser_of() as client:
        answer = client.get(_callback(client, "eve"))
        assert answer.status_code == 403
        assert "eve@example.com has no role here" in answer.text
        assert client.get("/").status_code == 303


def test_the_answer_of_the_provider_belongs_to_one_browser_and_counts_once(reached: Reached) -> None:
    with reached.browser_of() as client, reached.browser_of() as thief:
        place = _callback(client, "ada")
        assert thief.get(place).status_code == 403  # login CSRF: the thief's browser did not begin it
        thief.get("/login/oidc")
        assert thief.get(place).status_code == 403  # another state
        own = parse_qs(urlsplit(thief.get("/login/oidc").headers["location"]).query)["state"][0]
        mixed = re.sub(r"state=[^&]+", f"state={own}", place)
        assert thief.get(mixed).status_code == 403  # a code of another login: the provider compares the PKCE verifier
        assert client.get(place.replace("code=", "kode=")).status_code == 403
        assert client.get(place).status_code == 403  # that login is over
        assert client.get("/").status_code == 303
        fresh = _callback(client, "ada")
        assert client.get(fresh).status_code == 200
        assert client.get(fresh).status_code == 403


def test_a_login_that_the_provider_refuses_and_a_provider_that_is_away_are_said(reached: Reached) -> None:
    with reached.browser_of() as client:
        asked = client.get("/login/oidc")
        state = parse_qs(urlsplit(asked.headers["location"]).query)["state"][0]
        refused = client.get(
            "/login/oidc/callback", params={"state": state, "error": "access_denied", "error_description": "<b>no"}
        )
        assert refused.status_code == 403
        assert "access_denied &lt;b&gt;no" in refused.text
        (reached.folder / "client.secret").write_text("another")
        wrong = client.get(_callback(client, "ada"))
        assert wrong.status_code == 403
        assert "invalid_client" in wrong.text
