"""Places that a provider's answer names: never inside, whatever the configuration opens for somebody else."""

import asyncio
import socket

import pytest

from reconciler.drivers.http.client import Bounds, HttpSession
from reconciler.model.errors import AddressRefused
from tests.http.world import Fixture, serve

BOUNDS = Bounds(connect_s=1, read_s=2, write_s=2)
INSIDE = (
    "https://127.0.0.1/x",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::127.0.0.1]/",
    "https://[::1]/",
    "https://[::]/",
    "https://0.0.0.0/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://127.0.0.1./",
    "https://169.254.169.254/latest/meta-data",
    "https://[fe80::1]/",
    "https://[fe80::1%25lo]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[fd00::1]/",
    "https://10.0.0.5/admin",
    "http://10.0.0.5/admin",
    "http://140.82.112.3/",
    "https://140.82.112.3:8443/",
    "https://user@140.82.112.3/",
    "https://[not-an-address]/",
    "https://[",
    "//10.0.0.5/admin",
    "file:///etc/passwd",
    "https://localhost/",
)


def redirecting(target):
    async def handler(request):
        await request.reply(302, b"", location=target)

    return handler


@pytest.mark.parametrize("target", INSIDE)
async def test_n14_a_place_inside_that_an_answer_names_is_never_connected_to(target):
    async with serve(redirecting(target)) as server, HttpSession(allow=("127.0.0.1", "10.0.0.0/8"), bounds=BOUNDS) as session:
        with pytest.raises(AddressRefused):
            await Fixture(session).api(server.url).download("/logs")


async def test_n14_what_is_allowed_for_one_integration_is_not_for_a_redirect_of_another():
    async def secret(request):
        await request.reply(200, b"root password")

    async with serve(secret) as inside, HttpSession(allow=("127.0.0.0/8", "localhost"), bounds=BOUNDS) as session:
        for target in (f"http://127.0.0.1:{inside.port}/admin", f"http://localhost:{inside.port}/admin"):
            async with serve(redirecting(target)) as server:
                with pytest.raises(AddressRefused):
                    await Fixture(session).api(server.url).download("/logs")
        assert inside.seen == []
        assert (await Fixture(session).api(inside.url).request("GET", "/own")).content == b"root password"


async def test_n14_a_name_that_resolves_inside_is_refused_though_another_integration_may_go_there(monkeypatch):
    """Also with a connection that the other integration left open, and a name that was resolved for it."""

    async def handler(request):
        if request.target == "/logs":
            await request.reply(302, b"", location="https://inside.example/admin")
        else:
            await request.reply()

    async def resolve(host, port, **options):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async with serve(handler) as server:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
        allow = ("127.0.0.0/8", "inside.example", "own.example")
        async with HttpSession(allow=allow, bounds=BOUNDS) as session:
            await Fixture(session).api(f"http://inside.example:{server.port}").request("GET", "/user")
            with pytest.raises(AddressRefused):
                await Fixture(session).api(f"http://own.example:{server.port}").download("/logs")
    assert [row.target for row in server.seen] == ["/user", "/logs"]


async def test_n14_a_log_on_the_own_server_is_read():
    async def handler(request):
        if request.target == "/logs":
            await request.reply(302, b"", location=f"http://127.0.0.1:{request.headers['host'].partition(':')[2]}/there")
        else:
            assert "authorization" not in request.headers
            await request.reply(200, b"lines")

    async with serve(handler) as server, HttpSession(allow=("127.0.0.1",), bounds=BOUNDS) as session:
        assert (await Fixture(session).api(server.url).download("/logs")).content == b"lines"


def test_n14_the_hint_says_who_may_call_an_allowed_host():
    from reconciler.drivers.http.network import NetworkPolicy

    with pytest.raises(AddressRefused) as caught:
        NetworkPolicy(("10.0.0.5",)).check_url("https://10.0.0.5/admin")
    assert "only the integration whose URL names it" in caught.value.hint
