import asyncio
import ipaddress
import socket

import pytest

from reconciler.drivers.http.client import Bounds, HttpSession
from reconciler.drivers.http.network import NetworkPolicy, is_global
from reconciler.model.errors import AddressRefused, ConfigError
from tests.http.world import Fixture, Provider, serve

PROVIDER = NetworkPolicy(hosts=("api.github.com", "*.semaphoreci.com"))

REFUSED = (
    "http://api.github.com",
    "https://api.github.com:8443",
    "https://api.github.com:0",
    "https://evil.example",
    "https://api.github.com.evil.example",
    "https://evilapi.github.com",
    "https://a.b.semaphoreci.com",
    "https://semaphoreci.com",
    "https://user@api.github.com",
    "https://user:pass@api.github.com",
    "https://api.github.com@evil.example",
    "https://@api.github.com",
    "https://evil\\@api.github.com",
    "https://api.github.com\\.evil.example",
    "https:\\\\api.github.com",
    "https://api_.github.com",
    "https://_.semaphoreci.com",
    "https://a_b.semaphoreci.com",
    "https://-a.semaphoreci.com",
    "https://.semaphoreci.com",
    "https://127.0.0.1",
    "https://2130706433",
    "https://0x7f.1",
    "https://127.1",
    "https://0",
    "https://0x7f000001",
    "https://017700000001",
    "https://0177.0.0.1",
    "https://127.0.0.1.",
    "https://localhost",
    "https://[::1]",
    "https://[::ffff:127.0.0.1]",
    "https://[64:ff9b::7f00:1]",
    "https://[fe80::1%25eth0]",
    "https://[::]",
    "https://169.254.169.254",
    "https://%31%32%37.0.0.1",
    "https://127。0。0。1",
    "https://ⓖithub.com",
    "https://api.github.com\t.evil.example",
    "https://api.github.com\r\nhost: evil",
    "https://api.github.com ",
    "ftp://api.github.com",
    "file:///etc/passwd",
    "gopher://api.github.com",
    "//api.github.com",
    "api.github.com",
    "https://",
    "https:///x",
    "https://[::1",
    "https://api.github.com:x",
    "https://api.github.com:99999",
    "",
)


@pytest.mark.parametrize("url", REFUSED)
def test_f11_a_url_that_is_not_plainly_the_providers_own_is_refused(url):
    with pytest.raises(AddressRefused):
        PROVIDER.check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.github.com",
        "https://API.github.com",
        "https://api.github.com:443/x",
        "https://acme.semaphoreci.com",
        "https://api.github.com.",
    ],
)
def test_the_providers_own_hosts_need_no_configuration(url):
    PROVIDER.check_url(url)


@pytest.mark.parametrize(
    ("rule", "url"),
    [
        ("ghes.acme.example", "http://ghes.acme.example:8080/api/v3"),
        ("ghes.acme.example:8080", "http://ghes.acme.example:8080"),
        ("127.0.0.0/8", "http://127.0.0.1:5000"),
        ("10.1.2.3", "https://10.1.2.3"),
        ("::1/128", "http://[::1]:80"),
        ("*.acme.example", "https://a.acme.example"),
    ],
)
def test_what_the_configuration_allows_may_be_plain_http_on_any_port(rule, url):
    NetworkPolicy(allow=(rule,)).check_url(url)


@pytest.mark.parametrize(
    ("rule", "url"),
    [
        ("ghes.acme.example:8080", "http://ghes.acme.example:9090"),
        ("127.0.0.0/8", "http://10.0.0.1"),
        ("127.0.0.0/8", "http://2130706433"),
        ("*.acme.example", "https://a.b.acme.example"),
        ("ghes.acme.example", "http://user@ghes.acme.example"),
        ("127.0.0.0/8", "http://localhost"),
    ],
)
def test_a_rule_opens_only_what_it_names(rule, url):
    with pytest.raises(AddressRefused):
        NetworkPolicy(allow=(rule,)).check_url(url)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "198.18.0.1",
        "240.0.0.1",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "fec0::1",
        "ff0e::1",
        "::ffff:127.0.0.1",
        "::ffff:140.82.112.3",
        "::7f00:1",
        "64:ff9b::7f00:1",
        "64:ff9b::8c52:7003",
        "64:ff9b:1::1",
        "::ffff:0:7f00:1",
        "2002:7f00:1::",
        "2001:0:1::1",
        "2001:db8::1",
        "3fff::1",
        "5f00::1",
        "100::1",
    ],
)
def test_f11_an_address_that_is_not_public_or_hides_another_is_refused(address):
    assert not is_global(ipaddress.ip_address(address))
    with pytest.raises(AddressRefused) as caught:
        PROVIDER.check_addresses("api.github.com", ["140.82.112.3", address])
    assert address not in caught.value.message, "an answer of the resolver is nothing to show"


def test_public_addresses_are_accepted():
    PROVIDER.check_addresses("api.github.com", ["140.82.112.3", "2a00:1450:4001:80b::200e", "2606:50c0:8000::154"])


def test_a_host_name_in_the_allow_list_opens_private_addresses_but_not_the_metadata_service():
    policy = NetworkPolicy(allow=("ghes.acme.example",))
    policy.check_addresses("ghes.acme.example", ["10.1.2.3", "127.0.0.1", "fd00::5"])
    for address in ("169.254.169.254", "0.0.0.0", "fe80::1", "::ffff:169.254.169.254", "::"):
        with pytest.raises(AddressRefused):
            policy.check_addresses("ghes.acme.example", [address])
    NetworkPolicy(allow=("ghes.acme.example", "169.254.0.0/16")).check_addresses("ghes.acme.example", ["169.254.1.1"])


class _Resolver:
    """Stands in for DNS alone: another answer each time it is asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host, port, **options):
        self.asked += 1
        result = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in result]


async def test_f11_a_name_that_resolves_to_loopback_is_never_connected_to(monkeypatch):
    async def never(request):
        raise AssertionError("connected")

    async with serve(never) as server, HttpSession(bounds=Bounds(connect_s=1, read_s=2, write_s=2)) as session:
        for answer in (["127.0.0.1"], ["140.82.112.3", "127.0.0.1"], ["10.0.0.1"]):
            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", _Resolver(answer))
            for method in ("GET", "POST"):
                with pytest.raises(AddressRefused):
                    await Fixture(session).api("https://api.provider.example").request(method, "/user")
        assert server.connections == 0


async def test_f11_dns_that_changes_its_mind_between_check_and_connect_wins_nothing(monkeypatch):
    """The address that was checked is the one connected to: the name is asked once per connection, and each answer is checked."""
    hits = []

    async def handler(request):
        hits.append(request.headers["host"])
        await request.reply()

    async with (
        serve(handler) as server,
        HttpSession(allow=(f"rebind.example:{server.port}",), bounds=Bounds(connect_s=1, read_s=2)) as session,
    ):
        resolver = _Resolver(["127.0.0.1"], ["169.254.169.254"])
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolver)
        api = Fixture(session).api(f"http://rebind.example:{server.port}")
        await api.request("GET", "/a")
        assert resolver.asked == 1, "once for check and connect"
        assert hits == [f"rebind.example:{server.port}"]
    async with HttpSession(allow=(f"rebind.example:{server.port}",)) as session:
        with pytest.raises(AddressRefused):
            await Fixture(session).api(f"http://rebind.example:{server.port}").request("GET", "/a")


async def test_a_connection_to_a_host_that_is_not_allowed_cannot_even_be_made(http):
    for url in (
        "http://localhost:1",
        "https://evil.example",
        "http://2130706433:80",
        "http://127.0.0.1:80/?x=",
        "http://127.0.0.1:80/#x",
    ):
        with pytest.raises(AddressRefused):
            http.api(url)


async def test_the_environment_names_no_proxy_and_no_key_log(http, monkeypatch, tmp_path):
    async def handler(request):
        await request.reply()

    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    async with serve(handler) as server, HttpSession(allow=("127.0.0.1",)) as session:
        assert (await Fixture(session).api(server.url).request("GET", "/user")).status == 200
    assert not (tmp_path / "keys").exists()


async def test_a_configured_proxy_is_used_although_its_address_is_private(http, monkeypatch):
    async def handler(request):
        await request.reply(200, {"via": request.target})

    async with serve(handler) as server:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", _Resolver(["127.0.0.1"]))
        async with HttpSession(allow=("target.example",), proxy=f"http://proxy.example:{server.port}") as session:
            answer = await Fixture(session).api("http://target.example/api", provider=Provider(hosts=())).request("GET", "/user")
            assert answer.json() == {"via": "http://target.example/api/user"}


@pytest.mark.parametrize("content", [None, b"", b"not a certificate"])
async def test_a_ca_bundle_that_cannot_be_used_is_named(tmp_path, content):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        await HttpSession(ca_bundle=str(file)).__aenter__()
