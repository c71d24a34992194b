"""The daemon as an OIDC issuer, over HTTP: its documents, foreign clients, restarts, kills, and several processes on one state."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
import pytest
import requests
from google.auth.transport.requests import Request as GoogleRequest
from google.oauth2 import id_token as google_id_token

from tests.support.issuing import Issuer
from tests.support.postgres import Postgres

PATH = "/tenants/acme"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    """A daemon whose issuer has a path."""
    one = Issuer(tmp_path_factory.mktemp("issuer"), path=PATH)
    one.start()
    yield one
    one.stop()


@pytest.mark.parametrize("prefix", ["", PATH])
@pytest.mark.parametrize("name", ["openid-configuration", "jwks.json"])
def test_the_documents_are_public_cacheable_json_with_and_without_the_path_of_the_issuer(issuer: Issuer, prefix: str, name: str):
    url = f"{prefix}/.well-known/{name}"
    body, headers = issuer.get(url)
    assert headers["content-type"] == "application/json"
    assert headers["cache-control"] == "public, max-age=900"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["access-control-allow-origin"] == "*"
    assert "set-cookie" not in headers
    assert json.loads(body)
    empty, head = issuer.get(url, "HEAD")
    assert (empty, head["content-length"]) == (b"", str(len(body)))
    with pytest.raises(urllib.error.HTTPError) as refused:
        issuer.get(url, "POST")
    assert refused.value.code == 405


def test_the_discovery_document_is_what_relying_parties_require(issuer: Issuer):
    document = json.loads(issuer.get(f"{PATH}/.well-known/openid-configuration")[0])
    assert document["issuer"] == issuer.issuer
    assert document["jwks_uri"] == f"{issuer.issuer}/.well-known/jwks.json"
    assert document["response_types_supported"] == ["id_token"]
    assert document["subject_types_supported"] == ["public"]
    assert document["id_token_signing_alg_values_supported"] == ["RS256"]
    assert set(jwt.decode(issuer.token(), options={"verify_signature": False})) <= set(document["claims_supported"])


def test_pyjwt_and_google_auth_accept_a_token_by_the_published_key_set(issuer: Issuer):
    token = issuer.token()
    uri = requests.get(f"{issuer.issuer}/.well-known/openid-configuration", timeout=10).json()["jwks_uri"]
    key = jwt.PyJWKClient(uri).get_signing_key_from_jwt(token)
    claims = jwt.decode(token, key, algorithms=["RS256"], audience="sts.amazonaws.com", issuer=issuer.issuer)
    assert claims["sub"] == "reconciler:acme:default:Integration:cloud"
    with requests.Session() as session:
        google = GoogleRequest(session)
        assert google_id_token.verify_token(token, google, audience="sts.amazonaws.com", certs_url=uri) == claims
        with pytest.raises(jwt.InvalidAudienceError):
            google_id_token.verify_token(token, google, audience="other", certs_url=uri)
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token[:-8] + "AAAAAAAA", key, algorithms=["RS256"], audience="sts.amazonaws.com")


def test_keys_survive_restarts_and_kills_and_a_new_master_key(tmp_path: Path):
    one = Issuer(tmp_path)
    for delay in (0.9, 1.3, 1.7, 2.1):  # from the start to after the first key is stored
        one.spawn()
        time.sleep(delay)
        one.stop(signal.SIGKILL)
    one.start()
    first = one.key_ids()
    assert len(first) == 1
    token = one.token()
    one.stop()
    one.previous, one.key = str(one.key), tmp_path / "new.key"
    one.configure()
    one.key.write_bytes(one_key())
    one.key.chmod(0o600)
    one.start()
    assert one.key_ids() == first
    again = one.token()
    one.stop()
    one.previous = ""  # the key was sealed again, so the old master key is not needed any more
    one.configure()
    one.start()
    assert one.key_ids() == first
    key = jwt.PyJWKClient(f"{one.url}/.well-known/jwks.json").get_signing_key_from_jwt(token)
    for each in (token, again, one.token()):
        assert jwt.decode(each, key, algorithms=["RS256"], audience="sts.amazonaws.com")
    one.stop()


def one_key() -> bytes:
    import base64

    return base64.b64encode(b"n" * 32) + b"\n"


def test_a_state_from_before_the_issuer_gets_a_key(tmp_path: Path):
    import sqlite3

    one = Issuer(tmp_path)
    one.start()
    one.stop()
    with sqlite3.connect(one.folder / "state" / "state.db") as database:
        database.execute("DELETE FROM oidc_key")
    one.start()
    assert len(one.key_ids()) == 1
    one.stop()


def test_a_damaged_key_is_named_and_replaced_and_a_missing_table_is_an_outage(tmp_path: Path):
    import sqlite3

    one = Issuer(tmp_path)
    one.start()
    assert len(one.key_ids()) == 1
    one.stop()
    place = ("--dir", str(one.manifests), "--show")

    def damage(statement: str) -> None:
        with sqlite3.connect(one.folder / "state" / "state.db") as database:
            database.execute(statement)

    damage("""UPDATE oidc_key SET public = '{"kty": "RSA'""")
    one.start()
    assert one.key_ids() == []
    refused = one.run("oidc", "token", "Integration/cloud", *place)
    assert (refused.returncode, "RC4021" in refused.stderr, "--emergency" in refused.stderr) == (1, True, True)
    one.must("oidc", "rotate", "--emergency", "--yes")
    assert len(one.key_ids()) == 1
    assert one.token()
    damage("ALTER TABLE oidc_key RENAME TO gone")
    wait_for(lambda: status_of(one) == (503, "no-store"))
    damage("ALTER TABLE gone RENAME TO oidc_key")
    wait_for(lambda: len(one.key_ids()) == 1)
    assert "Traceback" not in one.log()
    one.stop()


def test_a_daemon_without_a_public_url_signs_only_with_what_is_published_elsewhere(tmp_path: Path):
    """The documents are static files; an outdated copy stops signing, and a person who publishes again does not wait."""
    public = tmp_path / "public"
    public.mkdir()
    with static(public) as url:
        one = Issuer(tmp_path / "daemon", oidc=f"{{issuer: '{url}'}}")
        config = one.folder / "reconciler.yaml"
        config.write_text(re.sub(r", publicUrl: '[^']*'", "", config.read_text()))
        one.start()
        show = ("oidc", "token", "Integration/cloud", "--dir", str(one.manifests), "--show")
        refused = one.run(*show)
        assert "RC4023" in refused.stderr
        assert f"{url}/.well-known/jwks.json cannot be read: the answer is an HTML page with status 404" in refused.stderr
        one.must("oidc", "export", str(public))
        one.run("reconcile", "Integration/cloud", "--wait")
        assert one.must(*show)
        rotated = one.run("oidc", "rotate", "--emergency", "--yes")
        assert (
            "Publish it now, because nothing is signed until then: reconciler oidc export DIR" in rotated.stdout + rotated.stderr
        )
        assert "does not contain the key" in one.run(*show).stderr
        one.must("oidc", "export", str(public))
        one.run("reconcile", "Integration/cloud", "--wait")
        assert one.must(*show)
        one.stop()


@contextmanager
def static(folder: Path) -> Iterator[str]:
    """Serve the files of ``folder``; a missing one is an HTML page with status 404."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def status_of(one: Issuer) -> tuple[int, str]:
    answer = requests.get(f"{one.url}/.well-known/jwks.json", timeout=10)
    return answer.status_code, answer.headers["cache-control"]


def test_two_processes_share_keys_and_see_each_others_rotation_within_seconds(tmp_path: Path):
    postgres = Postgres()
    peers: list[Issuer] = []
    try:
        url = postgres.database()
        (tmp_path / "keys").mkdir()
        (tmp_path / "keys" / "master.key").write_bytes(one_key())
        (tmp_path / "keys" / "master.key").chmod(0o600)
        peers = [
            Issuer(tmp_path / name, oidc="{issuer: 'https://ci.example.com'}", state=url, keys=tmp_path / "keys") for name in "ab"
        ]
        for peer in peers:
            peer.spawn()
        for peer in peers:
            wait_for(lambda peer=peer: len(peer.key_ids()) == 1)
        assert peers[0].key_ids() == peers[1].key_ids()
        kid = json.loads(peers[0].must("oidc", "rotate", "-o", "json"))["kid"]
        wait_for(lambda: kid in peers[1].key_ids(), 6.0)
        refused = peers[1].run("oidc", "rotate")
        assert "published already" in refused.stderr
        kid = json.loads(peers[1].must("oidc", "rotate", "--emergency", "--yes", "-o", "json"))["kid"]
        wait_for(lambda: peers[0].key_ids() == [kid], 6.0)
        assert "(emergency)" in peers[0].must("history")
    finally:
        for peer in peers:
            peer.stop()
        postgres.stop()


def wait_for(condition, timeout_s: float = 40.0) -> None:  # type: ignore[no-untyped-def]
    """Wait until ``condition`` returns true. A server that does not answer yet counts as false."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.2)
