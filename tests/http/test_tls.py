import asyncio
import datetime
import socket
import ssl
import subprocess

import pytest
import trustme

from reconciler.drivers.http.client import HttpSession
from reconciler.model.errors import AuthFailed, TLSFailed
from tests.http.world import FAST, TOKEN, Fixture, serve

pytestmark = pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def context(certificate, *, newest=None):
    created = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(created)
    if newest is not None:
        created.minimum_version = ssl.TLSVersion.TLSv1
        created.maximum_version = newest
        created.set_ciphers("ALL:@SECLEVEL=0")
    return created


async def ask(tls, bundle, method="GET"):
    async def handler(request):
        await request.reply()

    async with serve(handler, tls=tls) as server, HttpSession(allow=("127.0.0.1",), ca_bundle=bundle, bounds=FAST) as session:
        try:
            return await Fixture(session).api(server.url).request(method, "/user")
        finally:
            assert method == "GET" or server.seen == []


@pytest.fixture
def bundle(authority, tmp_path):
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    return str(file)


async def test_a_certificate_of_the_configured_authority_is_accepted(authority, bundle):
    assert (await ask(context(authority.issue_cert("127.0.0.1")), bundle)).status == 200


async def test_tls_1_2_is_accepted(authority, bundle):
    assert (await ask(context(authority.issue_cert("127.0.0.1"), newest=ssl.TLSVersion.TLSv1_2), bundle)).status == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [("expired", "expired"), ("self-signed", "self-signed|unable to get local issuer"), ("wrong host", "mismatch")],
)
async def test_d19_a_peer_that_cannot_be_trusted_is_refused_with_the_reason_and_it_is_not_the_credentials_fault(
    authority, bundle, fault, reason, method
):
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    tls = {
        "expired": lambda: context(
            authority.issue_cert("127.0.0.1", not_after=past, not_before=past - datetime.timedelta(days=2))
        ),
        "self-signed": lambda: context(trustme.CA().issue_cert("127.0.0.1")),
        "wrong host": lambda: context(authority.issue_cert("other.example")),
    }[fault]()
    with pytest.raises(TLSFailed, match=f"(?i){reason}") as caught:
        await ask(tls, bundle, method)
    assert not isinstance(caught.value, AuthFailed)
    assert not caught.value.unknown_outcome


@pytest.mark.parametrize("option", ["-tls1", "-tls1_1"])
async def test_d19_an_old_protocol_is_refused_and_never_fallen_back_to(authority, bundle, tmp_path, option):
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        "openssl",
        "s_server",
        "-accept",
        f"127.0.0.1:{port}",
        "-cert",
        str(tmp_path / "server.pem"),
        option,
        "-cipher",
        "ALL:@SECLEVEL=0",
        "-www",
    ]
    server = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert b"ACCEPT" in await asyncio.wait_for(server.stdout.readuntil(b"ACCEPT"), 10)
        async with HttpSession(allow=("127.0.0.1",), ca_bundle=bundle, bounds=FAST) as session:
            for method in ("GET", "POST"):
                with pytest.raises(TLSFailed, match="protocol version"):
                    await Fixture(session).api(f"https://127.0.0.1:{port}").request(method, "/user")
    finally:
        server.kill()
        await server.communicate()


async def test_d19_without_the_bundle_a_private_authority_is_not_trusted(authority):
    with pytest.raises(TLSFailed):
        await ask(context(authority.issue_cert("127.0.0.1")), None)


async def test_d19_a_plain_server_is_no_tls_server_and_never_gets_the_credential():
    got = []

    async def connected(reader, writer):
        got.append(await reader.read(4_096))
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server, HttpSession(allow=("127.0.0.1",), bounds=FAST) as session:
        with pytest.raises(TLSFailed):
            await (
                Fixture(session).api(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}").request("POST", "/user", json={})
            )
    assert TOKEN.encode() not in b"".join(got)
