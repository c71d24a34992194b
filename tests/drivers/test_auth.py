"""Short-lived credentials in memory, and requests to token endpoints."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import AsyncIterator
from typing import Any

import pytest

from reconciler.drivers.auth import RENEW_BEFORE_S, RETRY_AFTER_S, AuthRequest, Expiring, TokenCache, TokenRequest, no_issuer
from reconciler.drivers.http.clock import ProviderClock
from reconciler.drivers.http.exchange import TokenEndpoints
from reconciler.drivers.http.transport import HttpSession
from reconciler.model.errors import (
    AddressRefused,
    AuthFailed,
    ProviderUnavailable,
    RateLimited,
    ReconcilerError,
    SecretUnavailable,
)
from reconciler.model.resources import ResourceId
from reconciler.model.secrets import SecretValue


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Mint:
    """Counts its calls; each token is valid for ``life_s``."""

    def __init__(self, clock: Clock, life_s: float = 3600.0) -> None:
        self.clock, self.life_s, self.calls = clock, life_s, 0
        self.error: ReconcilerError | None = None

    async def __call__(self) -> Expiring[str]:
        self.calls += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return Expiring(f"token-{self.calls}", self.clock.now + self.life_s)


async def test_a_token_is_shared_by_concurrent_callers_and_renewed_before_it_ends():
    clock = Clock()
    cache, mint = TokenCache(clock), Mint(clock)
    assert set(await asyncio.gather(*(cache.get("a", mint) for _ in range(50)))) == {"token-1"}
    clock.now += 3600.0 - RENEW_BEFORE_S - 1
    assert await cache.get("a", mint) == "token-1"
    clock.now += 2
    assert await cache.get("a", mint) == "token-2"
    assert mint.calls == 2


async def test_a_short_token_is_renewed_at_half_of_its_life():
    clock = Clock()
    cache, mint = TokenCache(clock), Mint(clock, life_s=60.0)
    await cache.get("a", mint)
    clock.now += 29
    assert await cache.get("a", mint) == "token-1"
    clock.now += 2
    assert await cache.get("a", mint) == "token-2"


async def test_two_hundred_callers_share_one_request_whether_it_succeeds_or_fails():
    clock = Clock()
    cache, mint = TokenCache(clock), Mint(clock)
    assert set(await asyncio.gather(*(cache.get("a", mint) for _ in range(200)))) == {"token-1"}
    clock.now += 3600.0
    mint.error = AuthFailed("refused", status=401)
    errors = await asyncio.gather(*(cache.get("a", mint) for _ in range(200)), return_exceptions=True)
    assert errors == [mint.error] * 200
    assert mint.calls == 2
    frames = sum(1 for _ in traceback.walk_tb(mint.error.__traceback__))
    assert frames < 10  # each of the 200 would add its own


async def test_a_token_that_has_ended_when_it_is_granted_is_an_error_and_no_storm():
    clock = Clock()
    cache, mint = TokenCache(clock), Mint(clock, life_s=-1.0)
    for _ in range(10):
        with pytest.raises(ProviderUnavailable, match="ended already"):
            await cache.get("a", mint)
    assert mint.calls == 1


async def test_a_cancelled_caller_leaves_the_request_to_the_next():
    clock, cache = Clock(), TokenCache(Clock())
    started, calls = asyncio.Event(), 0

    async def mint() -> Expiring[str]:
        nonlocal calls
        calls += 1
        started.set()
        if calls == 1:
            await asyncio.sleep(60)
        return Expiring("token", clock.now + 3600)

    first = asyncio.create_task(cache.get("a", mint))
    await started.wait()
    others = [asyncio.create_task(cache.get("a", mint)) for _ in range(50)]
    first.cancel()
    assert set(await asyncio.gather(*others)) == {"token"}
    assert calls == 2


def test_a_request_shows_neither_its_credential_nor_its_proof():
    signed = AuthRequest("POST", "https://sts.example/", {"authorization": "Bearer canary"}, b"canary")
    sent = TokenRequest("POST", "https://sts.example/", {"x-vault-token": "canary"}, b"client_secret=canary")
    assert "canary" not in f"{signed!r} {sent!r} {Expiring(SecretValue('canary'), 1.0)!r}"


async def test_a_refused_request_is_not_repeated_within_a_minute():
    clock = Clock()
    cache, mint = TokenCache(clock), Mint(clock)
    mint.error = AuthFailed("refused", status=401)
    for _ in range(10):
        with pytest.raises(AuthFailed):
            await cache.get("a", mint)
    assert mint.calls == 1
    clock.now += RETRY_AFTER_S
    mint.error = None
    assert await cache.get("a", mint) == "token-2"


@pytest.mark.parametrize(("asked_s", "waits_s"), [(None, 60.0), (10.0, 60.0), (120.0, 120.0), (86_400.0, 3600.0)])
async def test_a_limit_is_waited_for_as_long_as_the_provider_asks(asked_s: float | None, waits_s: float):
    clock = Clock()
    cache, mint = TokenCache(clock), Mint(clock)
    mint.error = RateLimited("429", status=429, request="", retry_at=clock.now + asked_s if asked_s else None)
    for moment, calls in ((0.0, 1), (waits_s - 1, 1), (2.0, 2)):
        clock.now += moment
        with pytest.raises(RateLimited):
            await cache.get("a", mint)
        assert mint.calls == calls


async def test_a_failed_renewal_keeps_the_token_until_it_ends():
    clock = Clock()
    cache, mint = TokenCache(clock), Mint(clock)
    await cache.get("a", mint)
    mint.error = AuthFailed("refused", status=401)
    clock.now += 3600.0 - 100
    assert await cache.get("a", mint) == "token-1"
    assert await cache.get("a", mint) == "token-1"
    assert mint.calls == 2
    clock.now += 100
    with pytest.raises(AuthFailed):
        await cache.get("a", mint)


async def test_retry_now_and_forget_ask_again_at_once():
    clock = Clock()
    cache, mint = TokenCache(clock), Mint(clock)
    mint.error = AuthFailed("refused", status=401)
    with pytest.raises(AuthFailed):
        await cache.get("app:1", mint)
    mint.error = None
    cache.retry_now("other:")
    with pytest.raises(AuthFailed):
        await cache.get("app:1", mint)
    cache.retry_now("app:")
    assert await cache.get("app:1", mint) == "token-2"
    assert cache.forget("app:1")
    assert not cache.forget("app:1")
    assert await cache.get("app:1", mint) == "token-3"
    assert dict(cache.values("app:")) == {"app:1": "token-3"}


async def test_a_scope_sees_and_retries_its_own_keys_only():
    clock = Clock()
    cache, mint = TokenCache(clock), Mint(clock)
    one, other = cache.scoped("one|"), cache.scoped("other|")
    assert await one.get("a", mint) == "token-1"
    assert await other.get("a", mint) == "token-2"
    assert (dict(one.values()), other.ends_at("a")) == ({"a": "token-1"}, clock.now + 3600.0)
    assert not one.forget("b")
    mint.error = AuthFailed("refused", status=401)
    for scope in (one, other):
        assert scope.forget("a")
        with pytest.raises(AuthFailed):
            await scope.get("a", mint)
    mint.error = None
    cache.retry_now("one|")
    assert await one.get("a", mint) == "token-5"
    with pytest.raises(AuthFailed):
        await other.get("a", mint)
    other.retry_now()
    assert await other.get("a", mint) == "token-6"


async def test_a_clock_that_was_set_back_does_not_lengthen_a_token():
    clock = Clock()
    cache, mint = TokenCache(clock), Mint(clock)
    await cache.get("a", mint)
    clock.now -= 1800
    cache.pull_back(1800)
    clock.now += 3600 - RENEW_BEFORE_S + 1
    assert await cache.get("a", mint) == "token-2"
    assert cache.ends_at("a") == clock.now + 3600
    assert cache.ends_at("b") is None


@pytest.fixture
async def session() -> AsyncIterator[HttpSession]:
    async with HttpSession(allow=("127.0.0.1",)) as opened:
        yield opened


class Endpoint:
    """A token endpoint over TCP that answers with fixed bytes, or closes the connection."""

    def __init__(self, answer: bytes) -> None:
        self.answer, self.received = answer, b""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.received = await reader.readuntil(b"\r\n\r\n")
        writer.write(self.answer)
        await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def serve(answer: bytes) -> tuple[asyncio.Server, str, Endpoint]:
    endpoint = Endpoint(answer)
    server = await asyncio.start_server(endpoint, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", endpoint


async def send(session: HttpSession, request: TokenRequest, clock: ProviderClock | None = None) -> Any:
    return await TokenEndpoints(session, clock or ProviderClock(lambda: 0.0))(request)


async def test_any_answer_is_returned_and_its_date_is_read(session: HttpSession):
    body = b"HTTP/1.1 403 Forbidden\r\nDate: Thu, 01 Jan 1970 01:00:00 GMT\r\nContent-Length: 2\r\n\r\nno"
    server, url, endpoint = await serve(body)
    clock = ProviderClock(lambda: 0.0)
    async with server:
        answer = await send(session, TokenRequest("POST", f"{url}/token?assertion=s3cret", {"X-Proof": "1"}, b""), clock)
    assert (answer.status, answer.text) == (403, "no")
    assert b"x-proof: 1" in endpoint.received.lower()
    assert answer.request == "POST 127.0.0.1/token"
    assert clock.ahead_s == pytest.approx(3600, abs=5)


async def test_a_lost_answer_is_unavailable_and_not_an_unknown_outcome(session: HttpSession):
    server, url, _ = await serve(b"")
    async with server:
        with pytest.raises(ProviderUnavailable) as error:
            await send(session, TokenRequest("POST", f"{url}/token?assertion=s3cret"))
    assert "s3cret" not in str(error.value)


async def test_a_host_that_is_neither_the_providers_nor_allowed_gets_no_request(session: HttpSession):
    with pytest.raises(AddressRefused):
        await send(session, TokenRequest("POST", "https://evil.example/token", hosts=("sts.amazonaws.com",)))


async def test_without_an_issuer_there_is_no_id_token():
    with pytest.raises(SecretUnavailable) as error:
        await no_issuer(ResourceId("Integration", "default", "cloud"), "sts.amazonaws.com")
    assert error.value.code == "RC4020"
