"""Secrets in a real OpenBao: logins, versions, and a condition of its own for whatever is wrong."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from joserfc.jwk import RSAKey

from reconciler.config.settings import SecretsConfig
from reconciler.credentials.backends import SecretResolver
from reconciler.credentials.redact import Redactor
from reconciler.credentials.remote import RemoteSecrets
from reconciler.credentials.vault import VaultBackend
from reconciler.drivers.auth import ApiResponse, IssueIdToken, TokenRequest, no_issuer
from reconciler.drivers.http.clock import ProviderClock
from reconciler.drivers.http.exchange import TokenEndpoints
from reconciler.drivers.http.transport import HttpSession
from reconciler.model.errors import SecretUnavailable
from reconciler.model.resources import Location, Resource, ResourceId, SecretRef
from reconciler.model.secrets import SecretValue
from tests.support.openbao import OpenBao, openbao
from tests.support.relying import ISSUER, Issuing

VALUE = f"canary-{secrets.token_hex(12)}"
POLICY = 'path "secret/data/ci" { capabilities = ["read"] }'


@pytest.fixture(scope="module")
def bao() -> Iterator[OpenBao]:
    with openbao() as server:
        server.must("POST", "sys/auth/approle", {"type": "approle"})
        server.must("POST", "sys/policies/acl/ci", {"policy": POLICY})
        server.must("POST", "auth/approle/role/ci", {"token_policies": ["ci"], "token_ttl": "2m"})
        server.must("POST", "sys/mounts/old", {"type": "kv", "options": {"version": "1"}})
        server.must("POST", "old/ci", {"token": VALUE})
        yield server


class Installation:
    """A resolver over a real session, and the requests that it sent."""

    def __init__(self, session: HttpSession, id_token: IssueIdToken = no_issuer) -> None:
        self.now, self.requests, self.redactor = time.time(), [], Redactor()
        send = TokenEndpoints(session, ProviderClock(time.time))

        async def recorded(request: TokenRequest) -> ApiResponse:
            self.requests.append(f"{request.method} {request.url.partition('/v1/')[2]}")
            return await send(request)

        backend = VaultBackend(recorded, id_token, clock=lambda: self.now, conceal=self.redactor.add_passing)
        self.remote = RemoteSecrets({"vault": backend}, conceal=self.redactor.add, monotonic=lambda: self.now)

    requests: list[str]

    def resolver(self, *resources: Resource) -> SecretResolver:
        resolver = SecretResolver({r.id: r for r in resources}, SecretsConfig(), sandbox=True, redactor=self.redactor)
        resolver.remote = self.remote
        return resolver

    async def read(self, resolver: SecretResolver, key: str = "token", *, again: bool = False) -> str:
        ref = SecretRef("default", "s", key)
        await resolver.prepare([ref], again=again)
        return resolver.read(ref).reveal()

    async def error(self, resolver: SecretResolver, key: str = "token") -> SecretUnavailable:
        with pytest.raises(SecretUnavailable) as caught:
            await self.read(resolver, key, again=True)
        assert VALUE not in f"{caught.value.message} {caught.value.hint}"
        return caught.value


@pytest.fixture
async def installation() -> AsyncIterator[Installation]:
    async with HttpSession(allow=("127.0.0.1",)) as session:
        yield Installation(session)


def secret(address: str, auth: Mapping[str, Any], *, name: str = "s", **block: Any) -> Resource:
    vault = {"address": address, "path": "ci", "auth": auth, **block}
    return Resource(ResourceId("Secret", "default", name), {"provider": "vault", "vault": vault}, Location(f"{name}.yaml"))


def local(**data: str) -> Resource:
    spec = {"provider": "local", "local": {"data": data}}
    return Resource(ResourceId("Secret", "default", "login"), spec, Location("login.yaml"))


def ref(key: str) -> dict[str, Any]:
    return {"valueFrom": {"secret": {"name": "login", "key": key}}}


TOKEN = {"use": "token", "token": ref("token")}


def put(bao: OpenBao, **data: Any) -> None:
    bao.must("POST", "secret/data/ci", {"data": data})


def approle(bao: OpenBao) -> tuple[dict[str, Any], Resource]:
    role_id = bao.must("GET", "auth/approle/role/ci/role-id")["data"]["role_id"]
    secret_id = bao.must("POST", "auth/approle/role/ci/secret-id")["data"]["secret_id"]
    return {"use": "approle", "roleId": role_id, "secretId": ref("id")}, local(id=secret_id)


async def test_every_field_is_a_key_and_a_second_read_within_a_minute_asks_nothing(bao: OpenBao, installation: Installation):
    put(bao, token=VALUE, port=8080, on=True)
    auth, login = approle(bao)
    resolver = installation.resolver(secret(bao.url, auth), login)
    assert await installation.read(resolver) == VALUE
    assert (await installation.read(resolver, "port"), await installation.read(resolver, "on")) == ("8080", "true")
    assert installation.requests == ["POST auth/approle/login", "GET secret/data/ci"]
    assert installation.redactor.redact(f"x {VALUE}") == "x ***"
    put(bao, token="a-second-value")
    assert await installation.read(resolver) == VALUE
    installation.now += 61
    assert await installation.read(resolver) == "a-second-value"
    assert installation.requests[2:] == ["POST auth/approle/login", "GET secret/data/ci"]  # half of its two minutes has passed


async def test_it_is_known_when_a_store_may_be_asked_again(bao: OpenBao, installation: Installation):
    put(bao, token=VALUE)
    auth, login = approle(bao)
    resolver = installation.resolver(secret(bao.url, auth), login)
    refs = [SecretRef("default", "s", "token"), SecretRef("default", "login", "id")]
    assert resolver.due_in_s(refs) == 0
    await installation.read(resolver)
    assert resolver.due_in_s(refs) == 60
    assert resolver.due_in_s(refs[1:]) == 0  # a value of this host
    installation.now += 59
    assert resolver.due_in_s(refs) == pytest.approx(1, abs=1e-3)
    asked = len(installation.requests)
    installation.now += resolver.due_in_s(refs) + 0.001
    await installation.read(resolver)
    assert len(installation.requests) > asked


async def test_many_readers_share_one_login_and_one_read(bao: OpenBao, installation: Installation):
    put(bao, token=VALUE)
    auth, login = approle(bao)
    resolver = installation.resolver(secret(bao.url, auth), login)
    assert set(await asyncio.gather(*(installation.read(resolver) for _ in range(50)))) == {VALUE}
    assert installation.requests == ["POST auth/approle/login", "GET secret/data/ci"]


async def test_a_value_that_was_not_prepared_says_so(bao: OpenBao, installation: Installation):
    resolver = installation.resolver(secret(bao.url, TOKEN), local(token="root"))
    with pytest.raises(SecretUnavailable) as caught:
        resolver.read(SecretRef("default", "s", "token"))
    assert caught.value.code == "RC4087"


@pytest.mark.parametrize(
    ("block", "code", "words"),
    [
        ({"mount": "nowhere"}, "RC4084", "there is no mount 'nowhere'"),
        ({"mount": "old"}, "RC4084", "KV version 1"),
        ({"mount": "sys"}, "RC4084", "not KV version 2"),
        ({"path": "nothing"}, "RC4084", "nothing at 'nothing'"),
        ({"namespace": "none"}, "RC408", "none"),
        ({"data": {"token": {"field": "tokn"}}}, "RC4084", "no field 'tokn'"),
    ],
)
async def test_a_wrong_place_is_named(bao: OpenBao, installation: Installation, block: dict[str, Any], code: str, words: str):
    put(bao, token=VALUE)
    resolver = installation.resolver(secret(bao.url, TOKEN, **block), local(token="root"))
    error = await installation.error(resolver)
    assert error.code.startswith(code), error.message
    assert words in error.message or block.get("namespace")


async def test_deleted_and_destroyed_versions_are_told_apart_and_come_back(bao: OpenBao, installation: Installation):
    put(bao, token=VALUE)
    resolver = installation.resolver(secret(bao.url, TOKEN), local(token="root"))
    assert await installation.read(resolver) == VALUE
    bao.must("DELETE", "secret/data/ci")
    error = await installation.error(resolver)
    assert error.code == "RC4084"
    assert "is deleted at 2" in error.message
    put(bao, token="next")
    assert await installation.read(resolver, again=True) == "next"
    version = bao.must("GET", "secret/data/ci")["data"]["metadata"]["version"]
    bao.must("POST", "secret/destroy/ci", {"versions": [version]})
    assert "is destroyed" in (await installation.error(resolver)).message
    put(bao, token=VALUE)


async def test_a_revoked_policy_takes_the_value_away_and_names_the_capability(bao: OpenBao, installation: Installation):
    put(bao, token=VALUE)
    auth, login = approle(bao)
    resolver = installation.resolver(secret(bao.url, auth), login)
    assert await installation.read(resolver) == VALUE
    bao.must("POST", "sys/policies/acl/ci", {"policy": 'path "secret/data/else" { capabilities = ["read"] }'})
    try:
        error = await installation.error(resolver)
        assert error.code == "RC4083"
        assert "read on 'secret/data/ci' is missing (granted: deny; policies: ci, default)" in error.message
        before = len(installation.requests)
        for _ in range(20):
            with pytest.raises(SecretUnavailable):
                await installation.read(resolver)
        assert len(installation.requests) == before
    finally:
        bao.must("POST", "sys/policies/acl/ci", {"policy": POLICY})
    installation.now += 61
    assert await installation.read(resolver) == VALUE


async def test_a_revoked_token_is_replaced_by_a_new_login(bao: OpenBao, installation: Installation):
    put(bao, token=VALUE)
    auth, login = approle(bao)
    resolver = installation.resolver(secret(bao.url, auth), login)
    assert await installation.read(resolver) == VALUE
    bao.must("POST", "sys/leases/revoke-prefix/auth/approle")
    assert await installation.read(resolver, again=True) == VALUE
    assert installation.requests.count("POST auth/approle/login") == 2


async def test_a_static_token_is_renewed_and_its_end_is_named(bao: OpenBao, installation: Installation):
    put(bao, token=VALUE)
    made = bao.must("POST", "auth/token/create", {"policies": ["ci"], "ttl": "90s", "renewable": True})["auth"]["client_token"]
    resolver = installation.resolver(secret(bao.url, TOKEN), local(token=made))
    assert await installation.read(resolver) == VALUE
    installation.now += 61
    assert await installation.read(resolver) == VALUE
    assert installation.requests.count("POST auth/token/renew-self") == 2
    bao.must("POST", "auth/token/revoke", {"token": made})
    error = await installation.error(resolver)
    assert error.code == "RC4082"
    assert "has ended or was revoked" in error.message
    assert made not in error.message


async def test_a_wrong_secret_id_and_a_wrong_auth_mount_are_told_apart(bao: OpenBao, installation: Installation):
    auth, _ = approle(bao)
    error = await installation.error(installation.resolver(secret(bao.url, auth), local(id="wrong")))
    assert (error.code, "approle" in error.message) == ("RC4082", True)
    error = await installation.error(installation.resolver(secret(bao.url, {**auth, "mount": "elsewhere"}), local(id="wrong")))
    assert (error.code, "no auth method at 'elsewhere'" in error.hint) == ("RC4082", True)


async def test_a_replaced_credential_is_tried_at_once_after_a_refusal(bao: OpenBao, installation: Installation):
    put(bao, token=VALUE)
    declared = secret(bao.url, TOKEN)
    assert (await installation.error(installation.resolver(declared, local(token="wrong")))).code == "RC4082"
    before = len(installation.requests)
    with pytest.raises(SecretUnavailable):
        await installation.read(installation.resolver(declared, local(token="wrong")))
    assert len(installation.requests) == before
    assert await installation.read(installation.resolver(declared, local(token="root"))) == VALUE


async def test_a_missing_credential_of_the_backend_is_named_and_nothing_is_sent(bao: OpenBao, installation: Installation):
    resolver = installation.resolver(secret(bao.url, TOKEN), local(other="x"))
    assert "Secret/login" in (await installation.error(resolver)).message
    assert installation.requests == []


async def test_an_html_answer_and_a_closed_port_are_told_apart(installation: Installation):
    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b"<!DOCTYPE html><html><body>Log in</body></html>"
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(page, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    resolver = installation.resolver(secret(address, TOKEN), local(token="root"))
    error = await installation.error(resolver)
    assert (error.code, "HTML page" in error.message, address in error.message) == ("RC4080", True, True)
    server.close()
    await server.wait_closed()
    error = await installation.error(resolver)
    assert (error.code, "HTML" in error.message) == ("RC4080", False)


async def test_a_host_that_the_configuration_does_not_allow_gets_no_credential():
    async with HttpSession() as session:
        installation = Installation(session)
        resolver = installation.resolver(secret("http://127.0.0.1:1", TOKEN), local(token="root-token"))
        error = await installation.error(resolver)
    assert error.code == "RC4080"
    assert "allow" in f"{error.message} {error.hint}"


async def test_a_sealed_server_is_named_and_the_value_returns_after_the_unseal(installation: Installation):
    with openbao(dev=False) as bao:
        key = bao.initialize()
        bao.must("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
        await asyncio.sleep(0.5)
        put(bao, token=VALUE)
        resolver = installation.resolver(secret(bao.url, TOKEN), local(token=bao.token))
        assert await installation.read(resolver) == VALUE
        bao.must("PUT", "sys/seal")
        error = await installation.error(resolver)
        assert (error.code, "the server is sealed" in error.message) == ("RC4081", True)
        assert VALUE not in str(error)
        bao.call("POST", "sys/unseal", {"key": key}, token="")
        await asyncio.sleep(0.5)
        assert await installation.read(resolver, again=True) == VALUE


async def test_a_login_by_id_token_names_the_claim_and_defaults_to_the_address(bao: OpenBao, issuing_keys: Issuing):
    """The role binds another subject. The audience is the address, and the token ends in no message."""
    issuer = issuing_keys
    if "jwt/" not in bao.must("GET", "sys/auth"):
        bao.must("POST", "sys/auth/jwt", {"type": "jwt"})
    pem = RSAKey.import_key(dict(issuer.store.rows[0].public)).as_pem(private=False).decode()
    bao.must("POST", "auth/jwt/config", {"jwt_validation_pubkeys": [pem], "bound_issuer": ISSUER})
    role = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": [bao.url], "token_policies": ["ci"]}
    bao.must("POST", "auth/jwt/role/ci", {**role, "bound_subject": "somebody"})
    put(bao, token=VALUE)
    async with HttpSession(allow=("127.0.0.1",)) as session:
        installation = Installation(session, issuer.issuer)
        resolver = installation.resolver(secret(bao.url, {"use": "oidc", "role": "ci"}))
        error = await installation.error(resolver)
        assert error.code == "RC4082"
        assert "invalid subject (sub) claim" in error.message
        assert "sub is reconciler:team-a:default:Secret:s, the policy wants the role's `bound_subject`" in error.message
        assert "reconciler oidc trust vault Secret/s" in error.hint
        assert "eyJ" not in f"{error.message}{error.hint}"
        bao.must("POST", "auth/jwt/role/ci", {**role, "bound_subject": "reconciler:team-a:default:Secret:s"})
        assert await installation.read(resolver, again=True) == VALUE
        elsewhere = installation.resolver(secret(bao.url, {"use": "oidc", "role": "ci", "audience": "elsewhere"}))
        assert "aud is elsewhere" in (await installation.error(elsewhere)).message


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"aud": "x"}, "aud is x, the policy wants one of the role's `bound_audiences`"),
        ({"sub": "x"}, "sub is x, the policy wants the role's `bound_subject`"),
        ({"iss": "https://x"}, "iss is https://x, the policy wants the `bound_issuer`"),
        ({"owner": "x"}, "owner is x, the policy wants one of the values in the role's `bound_claims`"),
        ({"iat": -4000, "nbf": -4000, "exp": -3000}, "the policy wants a time that is still to come"),
        ({"iat": 600, "nbf": 570, "exp": 1200}, "nbf is "),
        ({"iat": 600, "nbf": 0, "exp": 1200}, "iat is "),
        ({"aud": ["x", "a"]}, ""),
    ],
    ids=["aud", "sub", "iss", "owner", "expired", "10 minutes ahead", "issued ahead", "a list"],
)
async def test_openbaos_own_words_for_each_claim_are_read(
    bao: OpenBao, issuing_keys: Issuing, claims: dict[str, Any], words: str
):
    issuing, now = issuing_keys, int(time.time())
    if "jwt/" not in bao.must("GET", "sys/auth"):
        bao.must("POST", "sys/auth/jwt", {"type": "jwt"})
    pem = RSAKey.import_key(dict(issuing.store.rows[0].public)).as_pem(private=False).decode()
    bao.must("POST", "auth/jwt/config", {"jwt_validation_pubkeys": [pem], "bound_issuer": ISSUER})
    role = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["a"], "bound_subject": "s", "token_policies": ["ci"]}
    bao.must("POST", "auth/jwt/role/words", {**role, "bound_claims": {"owner": "team-a"}})
    put(bao, token=VALUE)
    fields = {name: value + now if isinstance(value, int) else value for name, value in claims.items()}

    async def id_token(*_: object, **__: object) -> SecretValue:
        return SecretValue(issuing.token(**{"owner": "team-a", **fields}))

    async with HttpSession(allow=("127.0.0.1",)) as session:
        installation = Installation(session, id_token)
        resolver = installation.resolver(secret(bao.url, {"use": "oidc", "role": "words"}))
        if words:
            assert words in (await installation.error(resolver)).message
        else:
            assert await installation.read(resolver) == VALUE


@pytest.fixture
def issuing_keys() -> Issuing:
    return Issuing(time.time)


async def test_each_namespace_has_a_login_of_its_own(bao: OpenBao, installation: Installation):
    """One token is valid in one namespace only."""
    with answering(200, '{"auth": {"client_token": "t", "lease_duration": 600}}') as (address, paths):
        auth = {"use": "approle", "roleId": "r", "secretId": ref("id")}
        names = ("", "a", "b")
        secrets = [secret(address, auth, name=f"s{name}", namespace=name) for name in names]
        await installation.resolver(*secrets, local(id="x")).prepare(
            SecretRef("default", each.id.name, "token") for each in secrets
        )
        assert sorted(path for path in paths if "login" in path) == [f"POST auth/approle/login {name}".strip() for name in names]


async def test_a_changed_manifest_is_not_answered_with_the_values_of_the_former(bao: OpenBao, installation: Installation):
    put(bao, token=VALUE)
    assert await installation.read(installation.resolver(secret(bao.url, TOKEN), local(token="root"))) == VALUE
    changed = installation.resolver(secret(bao.url, TOKEN, path="else"), local(token="root"))
    with pytest.raises(SecretUnavailable) as caught:
        changed.read(SecretRef("default", "s", "token"))
    assert caught.value.code == "RC4087"


# -- many Secrets, and servers that do not serve ------------------------------------------------------------------------


@contextmanager
def answering(
    status: int, body: str, health: str = '{"initialized": true}', *, hangs: bool = False
) -> Iterator[tuple[str, list[str]]]:
    """Serve one answer for every path but ``sys/health``; yield the address and the paths that were requested."""
    paths: list[str] = []
    free = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            paths.append(f"{self.command} {self.path.removeprefix('/v1/')} {self.headers.get('x-vault-namespace', '')}".strip())
            if hangs:
                free.wait(30)
            healthy = self.path == "/v1/sys/health"
            self.send_response(200 if healthy else status)
            text = (health if healthy else body).encode()
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = answer

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", paths
    finally:
        free.set()
        server.shutdown()
        server.server_close()


def failure_of(resolver: SecretResolver, name: str) -> SecretUnavailable:
    with pytest.raises(SecretUnavailable) as caught:
        resolver.read(SecretRef("default", name, "token"))
    return caught.value


async def test_secrets_with_one_refused_login_try_it_once_a_minute_together(bao: OpenBao, installation: Installation):
    """Each failed login counts for the lockout of the AppRole."""
    auth, _ = approle(bao)
    names = [f"s{number}" for number in range(20)]
    resolver = installation.resolver(*(secret(bao.url, auth, name=name) for name in names), local(id="wrong"))
    refs = [SecretRef("default", name, "token") for name in names]
    for minute in range(1, 4):
        await resolver.prepare(refs[:5])
        installation.now += 20
        await resolver.prepare(refs[5:])
        assert installation.requests == ["POST auth/approle/login"] * minute
        for name in names:
            error = failure_of(resolver, name)
            assert error.code == "RC4082"
            assert error.message.startswith(f"Secret/{name}: {bao.url}: login by approle at auth/approle was refused (400)")
        installation.now += 41
    await resolver.prepare(refs, again=True)
    assert installation.requests.count("POST auth/approle/login") == 4


async def test_a_token_that_may_not_look_at_itself_still_reads(bao: OpenBao, installation: Installation):
    """A token without the policy `default` has no right to lookup-self and renew-self."""
    put(bao, token=VALUE)
    made = bao.must("POST", "auth/token/create", {"policies": ["ci"], "no_default_policy": True, "ttl": "1h"})["auth"][
        "client_token"
    ]
    resolver = installation.resolver(secret(bao.url, TOKEN), local(token=made))
    assert await installation.read(resolver) == VALUE
    bao.must("POST", "auth/token/revoke", {"token": made})
    error = await installation.error(resolver)
    assert (error.code, "has ended or was revoked" in error.message) == ("RC4082", True)


@pytest.mark.parametrize(
    ("status", "body", "health", "code", "words"),
    [
        (412, '{"errors": ["required index state not present"]}', "{}", "RC4080", "412: required index state not present"),
        (429, '{"errors": ["rate limit quota exceeded"]}', "{}", "RC4080", "429: rate limit quota exceeded"),
        (500, '{"errors": ["internal error"]}', "{}", "RC4080", "500: internal error"),
        (502, "bad gateway", "{}", "RC4080", "502"),
        (503, "{}", '{"sealed": true}', "RC4081", "the server is sealed"),
        (503, "{}", '{"initialized": false}', "RC4081", "not initialized"),
        (472, "{}", '{"standby": true}', "RC4081", "a standby"),
        (307, "", "{}", "RC4081", "standby that does not forward"),
        (200, "[]", "{}", "RC4080", "cannot be read"),
        (400, '{"errors": ["bad request"]}', "{}", "RC4084", "no mount"),
    ],
)
async def test_a_server_that_does_not_serve_is_asked_once_a_minute_and_named(
    installation: Installation, status: int, body: str, health: str, code: str, words: str
):
    with answering(status, body, health) as (address, paths):
        resolver = installation.resolver(secret(address, TOKEN, namespace="team"), local(token="canary-token"))
        for _ in range(20):
            with pytest.raises(SecretUnavailable) as caught:
                await installation.read(resolver)
        assert (caught.value.code, words in caught.value.message) == (code, True), caught.value.message
        assert "canary-token" not in f"{caught.value.message} {caught.value.hint}"
        assert len(paths) == len(set(paths)), paths
        assert all(path.endswith(" team") != ("sys/health" in path) for path in paths), paths


async def test_a_server_that_hangs_delays_only_its_own_secrets(bao: OpenBao, installation: Installation):
    put(bao, token=VALUE)
    with answering(200, "{}", hangs=True) as (address, paths):
        slow = [secret(address, TOKEN, name=f"slow{number}") for number in range(30)]
        resolver = installation.resolver(*slow, secret(bao.url, TOKEN), local(token="root"))
        waiting = asyncio.create_task(resolver.prepare([SecretRef("default", each.id.name, "token") for each in slow]))
        while len(paths) < 1:
            await asyncio.sleep(0.01)
        async with asyncio.timeout(5):
            assert await installation.read(resolver) == VALUE
        waiting.cancel()
