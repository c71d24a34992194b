"""Typed answers, and lists of them over several pages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.drivers.http.errors import Response
from reconciler.drivers.http.paging import read_list
from reconciler.drivers.wire import decode
from reconciler.model.errors import ListTooLarge, ProviderProtocolError


def test_a_value_within_an_answer_is_decoded() -> None:
    assert decode({"a": {"b": [1, 2]}}, list[int], "the answer", "a", "b") == [1, 2]
    assert decode([1], list[int], "the answer") == [1]


@pytest.mark.parametrize("answer", [{"a": {}}, {}, [], None, {"a": 1}, {"a": {"b": None}}, {"a": {"b": ["1"]}}])
def test_d15_a_value_that_is_missing_or_of_another_shape_is_a_protocol_error(answer: object) -> None:
    with pytest.raises(ProviderProtocolError, match="the answer cannot be read") as caught:
        decode(answer, list[int], "the answer", "a", "b", request="GET /x")
    assert caught.value.request == "GET /x"


class _Api:
    """Answers with pages, and links each to the next."""

    def __init__(self, *pages: object) -> None:
        self.pages = list(pages)
        self.asked: list[tuple[str, Any]] = []

    async def request(self, method: str, path: str, *, params: Any = None) -> Response:
        self.asked.append((path, params))
        number = len(self.asked)
        link = {"link": f'<https://x.example/rows?page={number + 1}>; rel="next"'} if number < len(self.pages) else {}
        return Response(200, link, json.dumps(self.pages[number - 1]).encode(), f"GET {path}")


async def test_d16_the_rows_of_all_pages_are_one_list() -> None:
    api = _Api({"rows": [1, 2]}, {"rows": []}, {"rows": [3]})
    assert await read_list(api, "/rows", list[int], "rows", params={"per_page": 2}) == [1, 2, 3]  # type: ignore[arg-type]
    assert api.asked == [("/rows", {"per_page": 2}), ("/rows?page=2", None), ("/rows?page=3", None)]
    with pytest.raises(ProviderProtocolError, match="GET /rows cannot be read"):
        await read_list(_Api([1]), "/rows?x=1", list[int], "rows")  # type: ignore[arg-type]


async def test_a_list_may_name_its_next_page_in_the_answer() -> None:
    api, tokens = _Api([1], [2]), iter(["/rows?token=b", None])
    assert await read_list(api, "/rows?token=a", list[int], next_page=lambda _page: next(tokens)) == [1, 2]  # type: ignore[arg-type]
    assert [path for path, _ in api.asked] == ["/rows?token=a", "/rows?token=b"]


async def test_a_list_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ListTooLarge, match="GET /rows: this list has more than"):
        await read_list(_Api([0] * 100_001), "/rows?x=1", list[int])  # type: ignore[arg-type]
