"""The OIDC issuer: the life of its keys, subjects and claims, and its tokens at a real relying party (OpenBao)."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import KeySet

from reconciler.credentials.id_tokens import IdTokenIssuer, IssuerSettings, documents
from reconciler.credentials.issuer import (
    DISCOVERY_PATH,
    KEYS_PATH,
    MAX_SUBJECT,
    PUBLISH_AHEAD_S,
    RESERVED,
    Lifetimes,
    TokenSpec,
    claims_of,
    subject_of,
)
from reconciler.credentials.keys import KeyRing, MasterKey
from reconciler.credentials.redact import Redactor
from reconciler.model.errors import ProviderUnavailable, SecretUnavailable, StateError, ValidationFailed
from reconciler.model.resources import ResourceId
from reconciler.state import Store
from reconciler.state.async_store import AsyncStore
from reconciler.state.thread import StateThread
from tests.support.openbao import OpenBao, openbao

CLOUD = ResourceId("Integration", "default", "cloud")
DAY_S = 86_400.0
ROTATION_S, TOKEN_S = 90 * DAY_S, 600.0
ISSUER = "https://ci.example.com"


class Installation:
    """One state and one clock; `issuer` opens a process on it."""

    def __init__(self, store: AsyncStore) -> None:
        self.store, self.now = store, 1_800_000_000.0
        self.ring = KeyRing(MasterKey(b"k" * 32))
        self.published: object = {"keys": []}

    def issuer(self, url: str = ISSUER, **settings: Any) -> IdTokenIssuer:
        async def fetch(address: str) -> object:
            assert address == url + KEYS_PATH
            if isinstance(self.published, Exception):
                raise self.published
            return self.published

        chosen = IssuerSettings(url, "acme", Lifetimes(ROTATION_S, TOKEN_S), "test", **settings)
        return IdTokenIssuer(chosen, store=self.store, ring=self.ring, redactor=Redactor(), fetch=fetch, clock=lambda: self.now)


@pytest.fixture
async def installation(tmp_path: Path) -> AsyncIterator[Installation]:
    thread = StateThread()
    store = await thread(Store.open, f"sqlite:///{tmp_path / 'state.db'}", state_dir=tmp_path)
    store.use_audit_keys([])
    yield Installation(AsyncStore(store, thread))
    await thread(store.close)
    thread.close()


def header_of(token: str) -> dict[str, Any]:
    import base64

    part = token.split(".")[0]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return decoded


def accepted(token: str, keys: Any) -> dict[str, Any]:
    """Return the claims, as a strict relying party reads them: the algorithm is fixed, and the key is chosen by its id."""
    return dict(jwt.decode(token, KeySet.import_key_set(keys), algorithms=["RS256"]).claims)


async def test_a_token_has_the_claims_that_all_relying_parties_need(installation: Installation):
    issuer = installation.issuer()
    token = (await issuer(CLOUD, "sts.amazonaws.com")).reveal()
    keys = await issuer.key_set()
    claims = accepted(token, keys)
    assert header_of(token) == {"alg": "RS256", "kid": keys["keys"][0]["kid"], "typ": "JWT"}  # type: ignore[index,call-overload]
    assert (claims["iss"], claims["aud"], claims["sub"]) == (
        ISSUER,
        "sts.amazonaws.com",
        "reconciler:acme:default:Integration:cloud",
    )
    now = int(installation.now)
    assert (claims["iat"], claims["nbf"], claims["exp"]) == (now, now - 30, now + 600)
    assert claims["jti"]
    assert claims["jti"] != accepted((await issuer(CLOUD, "sts.amazonaws.com")).reveal(), keys)["jti"]


async def test_the_documents_contain_public_members_only(installation: Installation):
    issuer = installation.issuer()
    keys = await issuer.key_set()
    assert [sorted(key) for key in keys["keys"]] == [["alg", "e", "kid", "kty", "n", "use"]]  # type: ignore[union-attr,arg-type]
    assert issuer.discovery()["jwks_uri"] == ISSUER + KEYS_PATH
    files = documents(ISSUER, keys)
    assert json.loads(files[DISCOVERY_PATH.lstrip("/")])["issuer"] == ISSUER
    assert json.loads(files[KEYS_PATH.lstrip("/")]) == keys


async def test_a_new_key_is_published_for_a_day_before_it_signs_and_a_day_after(installation: Installation):
    issuer = installation.issuer()
    published_since: dict[str, float] = {}
    cached: list[tuple[float, Any]] = []  # what a relying party has fetched, and when
    refused = 0
    for _ in range(int(3 * ROTATION_S / 43_200)):
        installation.now += 43_200
        keys = await issuer.key_set()
        for key in keys["keys"]:  # type: ignore[union-attr]
            published_since.setdefault(key["kid"], installation.now)  # type: ignore[index,arg-type,call-overload]
        cached.append((installation.now, keys))
        token = (await issuer(CLOUD, "aud")).reveal()
        kid = header_of(token)["kid"]
        first = next(iter(published_since))
        assert kid == first or installation.now - published_since[kid] >= PUBLISH_AHEAD_S
        for at, known in cached:
            if installation.now - at <= DAY_S and kid not in {key["kid"] for key in known["keys"]}:
                refused += 1
        # A token that ends now was signed by a key that a set fetched now still contains.
        assert len(keys["keys"]) <= 2  # type: ignore[arg-type]
    assert refused == 0
    assert len(published_since) >= 3


async def test_an_emergency_replaces_all_keys_at_once(installation: Installation):
    issuer = installation.issuer()
    before = (await issuer(CLOUD, "aud")).reveal()
    key = await issuer.rotate(emergency=True)
    keys = await issuer.key_set()
    assert [item["kid"] for item in keys["keys"]] == [key.kid]  # type: ignore[union-attr,index,call-overload]
    assert header_of((await issuer(CLOUD, "aud")).reveal())["kid"] == key.kid
    assert header_of(before)["kid"] != key.kid


async def test_a_rotation_by_hand_waits_for_the_caches_and_is_not_repeated_meanwhile(installation: Installation):
    issuer = installation.issuer()
    first = header_of((await issuer(CLOUD, "aud")).reveal())["kid"]
    key = await issuer.rotate()
    assert key.sign_from == installation.now + PUBLISH_AHEAD_S
    with pytest.raises(ValidationFailed):
        await issuer.rotate()
    installation.now += PUBLISH_AHEAD_S - 1
    assert header_of((await issuer(CLOUD, "aud")).reveal())["kid"] == first
    installation.now += 2
    assert header_of((await issuer(CLOUD, "aud")).reveal())["kid"] == key.kid


async def test_processes_share_the_keys_and_race_for_none(installation: Installation):
    issuers = [installation.issuer() for _ in range(5)]
    tokens = await asyncio.gather(*(issuer(CLOUD, "aud") for issuer in issuers))
    assert len({header_of(token.reveal())["kid"] for token in tokens}) == 1
    assert len(await installation.store.oidc_keys()) == 1


async def test_the_private_key_is_sealed_and_follows_the_master_key(installation: Installation):
    issuer = installation.issuer()
    await issuer(CLOUD, "aud")
    (row,) = await installation.store.oidc_keys()
    assert b'"d"' not in row.sealed
    old = installation.ring.current
    installation.ring = KeyRing(MasterKey(b"n" * 32), old)
    token = await installation.issuer()(CLOUD, "aud")
    assert header_of(token.reveal())["kid"] == row.kid
    installation.ring = KeyRing(MasterKey(b"n" * 32))
    assert header_of((await installation.issuer()(CLOUD, "aud")).reveal())["kid"] == row.kid
    installation.ring = KeyRing(MasterKey(b"x" * 32))
    with pytest.raises(StateError) as error:
        await installation.issuer()(CLOUD, "aud")
    assert error.value.code == "RC4021"


async def test_a_read_only_process_creates_no_key(installation: Installation):
    with pytest.raises(SecretUnavailable):
        await installation.issuer(read_only=True)(CLOUD, "aud")
    assert await installation.store.oidc_keys() == ()


async def test_nothing_is_signed_with_a_key_that_is_not_published_elsewhere(installation: Installation):
    issuer = installation.issuer(elsewhere=True)
    for published, reason in (
        ({"keys": []}, "does not contain the key"),
        ("<html>", "is not a JSON Web Key Set"),
        (ProviderUnavailable("GET: no connection"), "cannot be read"),
    ):
        installation.published = published
        installation.now += 61
        with pytest.raises(SecretUnavailable, match=reason) as error:
            await issuer(CLOUD, "aud")
        assert error.value.code == "RC4023"
    installation.published = await issuer.key_set()
    with pytest.raises(SecretUnavailable):
        await issuer(CLOUD, "aud")  # at most one look a minute
    installation.now += 61
    assert (await issuer(CLOUD, "aud")).reveal()


def test_a_subject_of_ones_own_cannot_claim_the_name_of_a_resource(installation: Installation):
    issuer = installation.issuer()
    assert issuer.subject(CLOUD, "deploy-bot") == "deploy-bot"
    for subject in ("reconciler:acme:default:Integration:other", "ü" * 64):
        with pytest.raises(ValidationFailed):
            issuer.subject(CLOUD, subject)


_NAMES = st.text(min_size=1, max_size=300)
_RESOURCES = st.builds(ResourceId, _NAMES, _NAMES, _NAMES)


@given(st.lists(st.tuples(_NAMES, _RESOURCES), min_size=2, max_size=6))
def test_subjects_are_short_and_two_resources_never_share_one(pairs: list[tuple[str, ResourceId]]):
    subjects = {}
    for owner, resource in pairs:
        subject = subject_of(owner, resource)
        assert len(subject.encode()) <= MAX_SUBJECT
        assert subjects.setdefault(subject, (owner, resource)) == (owner, resource)


@given(_NAMES, _NAMES)
def test_separators_in_names_do_not_move_the_border_between_parts(one: str, other: str):
    joined = subject_of("o", ResourceId("K", f"{one}:{other}", "n"))
    apart = subject_of("o", ResourceId("K", one, f"{other}:n"))
    assert joined != apart


@given(st.dictionaries(st.one_of(st.sampled_from(sorted(RESERVED)), _NAMES), st.text(), max_size=5))
def test_no_context_changes_a_reserved_claim(context: dict[str, str]):
    spec = TokenSpec(ISSUER, "sub", "aud", context)
    if RESERVED & set(context):
        with pytest.raises(ValueError, match="reserved"):
            claims_of(spec, 1000.5, 600.0, "id")
        return
    claims = claims_of(spec, 1000.5, 600.0, "id")
    assert {name: claims[name] for name in ("iss", "sub", "aud", "iat", "nbf", "exp", "jti")} == {
        "iss": ISSUER,
        "sub": "sub",
        "aud": "aud",
        "iat": 1000,
        "nbf": 970,
        "exp": 1600,
        "jti": "id",
    }


# -- a real relying party ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bao() -> Iterator[OpenBao]:
    with openbao() as server:
        yield server


@contextmanager
def published(files: dict[str, bytes]) -> Iterator[str]:
    """Serve ``files`` by path; the dictionary may change while it is served."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = files.get(self.path.lstrip("/"))
            self.send_response(200 if body is not None else 404)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


async def test_openbao_accepts_our_tokens_and_follows_rotations(bao: OpenBao, installation: Installation):
    import time

    installation.now = time.time()
    files: dict[str, bytes] = {}
    with published(files) as url:
        issuer = installation.issuer(url)
        files.update(documents(url, await issuer.key_set()))
        bao.must("POST", "sys/auth/jwt", {"type": "jwt"})
        bao.must("POST", "auth/jwt/config", {"oidc_discovery_url": url, "bound_issuer": url})
        role = {
            "role_type": "jwt",
            "user_claim": "sub",
            "bound_audiences": ["vault"],
            "bound_subject": subject_of("acme", CLOUD),
            "token_policies": ["default"],
        }
        bao.must("POST", "auth/jwt/role/ci", role)

        def login(token: str) -> tuple[int, str]:
            answer = bao.call("POST", "auth/jwt/login", {"role": "ci", "jwt": token}, token="")
            return answer.status_code, answer.text

        assert login((await issuer(CLOUD, "vault")).reveal())[0] == 200
        status, text = login((await issuer(CLOUD, "other")).reveal())
        assert status == 400
        assert "invalid audience" in text
        status, text = login((await issuer(ResourceId("Integration", "default", "else"), "vault")).reveal())
        assert status == 400
        assert "sub" in text
        await issuer.rotate(emergency=True)
        files.update(documents(url, await issuer.key_set()))
        assert login((await issuer(CLOUD, "vault")).reveal())[0] == 200
        installation.now -= 3600
        status, text = login((await issuer(CLOUD, "vault")).reveal())
        assert status == 400
