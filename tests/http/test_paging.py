import pytest

from reconciler.drivers.http.clock import date_of
from reconciler.drivers.http.errors import Response
from reconciler.drivers.http.paging import ListBound, link_next, paginate
from reconciler.model.errors import ListTooLarge, ProviderProtocolError
from tests.http.world import serve


def pages(links):
    """Return a handler that serves /list and gives each page the Link that ``links`` names for its query."""

    async def handler(request):
        link = links(request) if callable(links) else links.get(request.target)
        await request.reply(200, [request.target], **({"Link": link} if link else {}))

    return handler


async def collect(api, **options):
    return [page async for page in paginate(api, "/list", **options)]


async def test_every_page_is_read_by_the_links_and_on_the_own_root(http):
    links = {}
    async with serve(pages(links)) as server:
        links.update(
            {
                "/api/v3/list?per_page=100": f'<{server.url}/api/v3/list?per_page=100&page=2>; rel="next", '
                f'<{server.url}/x>; rel="last"',
                "/api/v3/list?per_page=100&page=2": f'<{server.url}/api/v3/list?per_page=100&page=1>; rel="prev", '
                f'<{server.url}/api/v3/list?cursor=a%2Bb>; rel="next"',
            }
        )
        got = await collect(http.api(server.url + "/api/v3"), params={"per_page": 100})
    assert [page.json()[0] for page in got] == [
        "/api/v3/list?per_page=100",
        "/api/v3/list?per_page=100&page=2",
        "/api/v3/list?cursor=a%2Bb",
    ]


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/list?page=2",
        "http://127.0.0.1:1/list?page=2",
        "http://127.0.0.1:x/?page=2",
        "ftp://x/?page=2",
        "http://127.0.0.1@evil.example/list?page=2",
        "/api/v4/elsewhere?page=2",
        "?page=2",
    ],
)
async def test_d16_n55_a_next_page_on_another_host_or_path_is_asked_for_on_our_own(http, link):
    """As of a server behind a proxy; the credential never goes elsewhere."""
    async with serve(pages({"/api/v3/list?per_page=2": f'<{link}>; rel="next"'})) as server:
        got = await collect(http.api(server.url + "/api/v3"), params={"per_page": 2})
    assert [page.json()[0] for page in got] == ["/api/v3/list?per_page=2", "/api/v3/list?page=2"]
    assert len(server.seen) == 2


@pytest.mark.parametrize("link", ["http://[::1", "https://evil.example/list", "ftp://x/", "?per_page=2"])
async def test_n55_a_next_page_that_is_the_same_again_or_cannot_be_read_is_an_error(http, link):
    async with serve(pages(lambda _: f'<{link}>; rel="next"')) as server:
        with pytest.raises(ProviderProtocolError):
            await collect(http.api(server.url), params={"per_page": 2})
    assert len(server.seen) == 1


@pytest.mark.parametrize("loop", ["/list", "/list?page=2"])
async def test_d16_pages_that_run_in_a_circle_end(http, loop):
    async with serve(pages(lambda _: f'<{server.url}{loop}>; rel="next"')) as server:
        with pytest.raises(ProviderProtocolError, match="circle"):
            await collect(http.api(server.url))
    assert len(server.seen) <= 2


async def test_d16_pages_without_an_end_end_at_the_cap(http):
    async with serve(
        pages(lambda r: f'<{server.url}/list?page={int(r.target.partition("=")[2] or 1) + 1}>; rel="next"')
    ) as server:
        with pytest.raises(ProviderProtocolError, match="more than 20 pages"):
            await collect(http.api(server.url), max_pages=20)
    assert len(server.seen) == 20


async def test_a_driver_with_a_page_token_says_what_the_next_page_is(http):
    def token(response):
        return "/list?token=2" if "token" not in response.json()[0] else None

    async with serve(pages({})) as server:
        assert len(await collect(http.api(server.url), next_page=token)) == 2
    assert server.lines == ["GET /list", "GET /list?token=2"]


@pytest.mark.parametrize(
    ("header", "target"),
    [
        ('<https://h/a?b=1>; rel="next"', "https://h/a?b=1"),
        ("<https://h/a>; rel=next", "https://h/a"),
        ('<https://h/a>; title="x"; rel="prev next"', "https://h/a"),
        ('<https://h/a,b;c>; rel="next"', "https://h/a,b;c"),
        ('<https://h/a>; rel="last"', None),
        ("", None),
        ("nonsense; rel=next", None),
        ("<>", None),
        ('<https://h/1>; rel="first", <https://h/2>; rel="next"', "https://h/2"),
        ("<" * 5_000, None),
        ('<https://h/a>; rel="nextish"', None),
        ('<https://h/a>; title="rel=next"; rel="last"', None),
    ],
)
def test_the_link_header_is_read_as_its_standard_says(header, target):
    assert link_next(Response(200, {"link": header}, b"", "GET /a")) == target


def test_n35_the_items_of_a_list_are_bounded_over_all_of_its_pages():
    bound = ListBound("/hooks", max_items=5)
    bound.count(3)
    bound.count(2)
    with pytest.raises(ListTooLarge, match="more than 5 items"):
        bound.count(1)


def test_n5_a_date_that_a_cache_has_kept_tells_no_time():
    date = {"date": "Fri, 27 Nov 2026 05:00:00 GMT"}
    assert date_of(date) == date_of({**date, "age": "0"}) == 1_795_755_600.0
    assert date_of({**date, "age": "30"}) is None
