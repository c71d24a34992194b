"""What a browser does with a page that has one form: it sends the form, and follows redirects."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin, urlsplit


@dataclass
class Page:
    status: int
    headers: dict[str, str]
    text: str


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.action, self.method, self.fields = "", "", {}  # type: ignore[var-annotated]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action, self.method = values["action"], values["method"]
        if tag == "input":
            self.fields[values["name"]] = values["value"]


def fetch(url: str, method: str = "GET", fields: dict[str, str] | None = None, **headers: str) -> Page:
    """Send one request; ``headers`` with underscores for dashes."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    known = {name.replace("_", "-"): value for name, value in headers.items()}
    body = None
    if fields is not None:
        body, known["content-type"] = urlencode(fields), "application/x-www-form-urlencoded"
    try:
        connection.request(method, f"{parts.path}{'?' if parts.query else ''}{parts.query}", body=body, headers=known)
        answer = connection.getresponse()
        return Page(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode())
    finally:
        connection.close()


def form_of(page: Page) -> tuple[str, dict[str, str]]:
    """Return where the form of ``page`` is sent, and its fields."""
    forms = _Forms()
    forms.feed(page.text)
    assert forms.method == "post"
    return forms.action, forms.fields


class Browser:
    """Keeps the cookie of the page that it opens."""

    def __init__(self) -> None:
        self.cookie: dict[str, str] = {}

    def open(self, url: str, **headers: str) -> Page:
        page = fetch(url, **{**self.cookie, **headers})
        if "set-cookie" in page.headers:
            self.cookie = {"cookie": page.headers["set-cookie"].partition(";")[0]}
        return page

    def confirm(self, url: str) -> str:
        """Open the page, send its form, and return where the answer redirects to."""
        action, fields = form_of(self.open(url))
        answer = fetch(action, "POST", fields)
        assert answer.status == 302, answer.text
        return urljoin(action, answer.headers["location"])
