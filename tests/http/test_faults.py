"""What networks and broken or hostile servers do."""

import asyncio
import gzip
import socket
import subprocess
import sys
import textwrap
import time
import zlib
from pathlib import Path

import pytest

from reconciler.drivers.http.client import HttpSession
from reconciler.model.errors import OutcomeUnknown, ProviderProtocolError, ProviderUnavailable
from tests.http.world import FAST, Fixture, serve

WRITES = ["POST", "PUT", "PATCH", "DELETE"]
LIMIT_S = FAST.read_s + 0.5
ROOT = Path(__file__).parents[2]


async def cut(request):
    request.cut()


async def reset(request):
    request.cut(reset=True)


async def cut_in_head(request):
    await request.raw(b"HTTP/1.1 201 Created\r\ncontent-le")
    request.cut()


async def cut_in_body(request):
    await request.raw(b"HTTP/1.1 201 Created\r\ncontent-length: 100\r\n\r\n{")
    request.cut()


async def cut_in_chunk(request):
    await request.raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{")
    request.cut(reset=True)


async def silent(request):
    await asyncio.sleep(30)


async def no_http(request):
    await request.raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    request.cut()


async def bad_length(request):
    await request.raw(b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n{}")
    request.cut()


async def long_header(request):
    await request.raw(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000 + b"\r\n\r\n")
    request.cut()


async def cut_gzip(request):
    body = gzip.compress(b'{"a": 1}' * 100)[:-9]
    await request.reply(200, body, content_encoding="gzip")


async def bad_gzip(request):
    await request.reply(200, b"this is no gzip", content_encoding="gzip")


async def foreign_coding(request):
    await request.reply(200, b"...", content_encoding="br")


BROKEN = [
    cut,
    reset,
    cut_in_head,
    cut_in_body,
    cut_in_chunk,
    no_http,
    bad_length,
    long_header,
    cut_gzip,
    bad_gzip,
    foreign_coding,
]


@pytest.mark.parametrize("handler", BROKEN)
@pytest.mark.parametrize("method", WRITES)
async def test_d12_after_a_write_was_sent_a_broken_answer_leaves_its_outcome_unknown_and_it_is_sent_once(http, handler, method):
    async with serve(handler) as server:
        with pytest.raises(OutcomeUnknown):
            await http.api(server.url).request(method, "/hooks?hush=1", json={"a": "hush"})
    assert len(server.seen) == 1


@pytest.mark.parametrize("handler", BROKEN)
async def test_d12_a_read_with_a_broken_answer_changes_nothing_and_says_so(http, handler):
    async with serve(handler) as server:
        with pytest.raises((ProviderUnavailable, ProviderProtocolError)) as caught:
            await http.api(server.url).request("GET", "/hooks")
    assert not caught.value.unknown_outcome
    assert len(server.seen) == (1 if isinstance(caught.value, ProviderProtocolError) else 3)


@pytest.mark.parametrize("method", WRITES)
async def test_d12_a_write_on_a_kept_connection_that_breaks_is_not_sent_again(http, method):
    async def handler(request):
        if request.method == "GET":
            await request.reply()
        else:
            request.cut()

    async with serve(handler) as server:
        api = http.api(server.url)
        await api.request("GET", "/warm")
        with pytest.raises(OutcomeUnknown):
            await api.request(method, "/hooks/1", json={})
        assert server.lines == ["GET /warm", f"{method} /hooks/1"]


async def test_d12_a_write_that_times_out_leaves_its_outcome_unknown(http):
    async with serve(silent) as server:
        with pytest.raises(OutcomeUnknown, match="no answer in time"):
            await http.api(server.url).request("POST", "/hooks", json={})


async def test_what_was_never_sent_is_never_an_unknown_outcome(http, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for method in ("GET", *WRITES):
        with pytest.raises(ProviderUnavailable, match="refused"):
            await http.api(f"http://127.0.0.1:{port}").request(method, "/hooks", json={} if method != "GET" else None)

    async def nowhere(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    async with HttpSession(allow=("ghes.example",), bounds=FAST) as session:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nowhere)
        with pytest.raises(ProviderUnavailable, match="unknown host name"):
            await Fixture(session).api("http://ghes.example").request("POST", "/hooks", json={})


@pytest.mark.timeout(60)
async def test_a_resolver_that_hangs_ends_at_the_deadline_and_nothing_was_sent(http, monkeypatch):
    async def hang(*_, **__):
        await asyncio.sleep(3600)

    async with HttpSession(allow=("ghes.example",), bounds=FAST) as session:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", hang)
        with pytest.raises(ProviderUnavailable):
            await Fixture(session).api("http://ghes.example").request("POST", "/hooks", json={})


async def drip_head(request):
    for byte in b"HTTP/1.1 200 OK\r\nx-slow: " + b"a" * 1_000:
        await request.raw(bytes([byte]))
        await asyncio.sleep(0.05)


async def drip_body(request):
    await request.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n")
    for _ in range(1_000):
        await request.raw(b"a")
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("handler", [drip_head, drip_body, silent])
async def test_d13_a_server_that_drips_is_left_at_the_total_deadline(http, handler):
    async with serve(handler) as server:
        started = time.monotonic()
        with pytest.raises(ProviderUnavailable, match="no answer in time"):
            await http.api(server.url).request("GET", "/hooks")
        took = time.monotonic() - started
    assert took <= LIMIT_S + 0.5, "retries included: the deadline is that of the request"
    assert len(server.seen) == 1


async def test_d14_a_declared_size_over_the_cap_is_refused_before_it_is_read(http):
    async def handler(request):
        await request.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999\r\n\r\n")
        await asyncio.sleep(30)

    async with serve(handler) as server:
        with pytest.raises(ProviderProtocolError, match="larger than 1 MiB"):  # and not that no answer came in time
            await http.api(server.url).request("GET", "/hooks")


async def test_d14_an_endless_body_is_refused_at_the_cap(http):
    sent = 0

    async def handler(request):
        nonlocal sent
        await request.raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await request.raw(b"10000\r\n" + b"a" * 65_536 + b"\r\n")
            sent += 65_536

    async with serve(handler) as server:
        with pytest.raises(ProviderProtocolError, match="larger than 1 MiB"):
            await http.api(server.url).request("GET", "/hooks")
    assert sent < 16 << 20


async def test_a_body_of_exactly_the_cap_is_read_plain_and_compressed(http):
    body = b"a" * FAST.max_bytes

    async def handler(request):
        zipped = "zip" in request.target
        await request.reply(200, gzip.compress(body) if zipped else body, **({"content_encoding": "gzip"} if zipped else {}))

    async with serve(handler) as server:
        api = http.api(server.url)
        assert (await api.request("GET", "/plain")).content == body
        assert (await api.request("GET", "/zip")).content == body


async def test_a_compressed_answer_without_a_body_is_no_error(http):
    async def handler(request):
        await request.raw(b"HTTP/1.1 304 Not Modified\r\ncontent-encoding: gzip\r\n\r\n")

    async with serve(handler) as server:
        assert (await http.api(server.url).request("GET", "/hooks")).content == b""


BOMB = textwrap.dedent("""
    import asyncio, resource, sys
    from reconciler.drivers.http.client import Bounds, HttpSession
    from reconciler.model.errors import ProviderProtocolError
    from tests.http.world import Fixture, serve
    bomb = open(sys.argv[1], "rb").read()
    async def main():
        async def handler(request):
            packed = "bomb" in request.target
            await request.reply(200, bomb if packed else b"{}", **({"content_encoding": "gzip"} if packed else {}))
        bounds = Bounds(max_bytes=int(sys.argv[2]) << 20)
        async with serve(handler) as server, HttpSession(allow=("127.0.0.1",), bounds=bounds) as session:
            api = Fixture(session).api(server.url)
            await api.request("GET", "/warm")
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            try:
                await api.request("GET", "/bomb")
            except ProviderProtocolError as error:
                print(error.message)
            print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    asyncio.run(main())
""")


@pytest.mark.parametrize(("cap_mib", "most_mib"), [(16, 20), (1, 8)])
def test_d14_a_gzip_bomb_of_200_mb_costs_little_more_memory_than_the_cap(tmp_path, cap_mib, most_mib):
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join([*(packer.compress(b"\0" * (1 << 20)) for _ in range(200)), packer.flush()])
    assert len(bomb) < 250_000
    (tmp_path / "bomb").write_bytes(bomb)
    command = [sys.executable, "-c", BOMB, str(tmp_path / "bomb"), str(cap_mib)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    message, grown_mib = done.stdout.splitlines() or [done.stderr, "999"]
    assert f"larger than {cap_mib} MiB" in message
    assert int(grown_mib) < most_mib


async def test_one_slow_host_does_not_hold_up_another(http):
    async def quick(request):
        await request.reply()

    async with serve(silent) as slow, serve(quick) as fast:
        hanging = [asyncio.ensure_future(http.api(slow.url).request("GET", f"/{n}")) for n in range(30)]
        await asyncio.sleep(0.1)
        await http.api(fast.url).request("GET", "/a")
        assert not any(row.done() for row in hanging)
        assert all(isinstance(row, ProviderUnavailable) for row in await asyncio.gather(*hanging, return_exceptions=True))


async def test_a_request_that_is_cancelled_gives_its_place_back(http):
    async with serve(silent) as server:
        api = http.api(server.url)
        tasks = [asyncio.ensure_future(api.request("POST", "/a", json={})) for _ in range(150)]
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert api._budget.gate._value == 100
