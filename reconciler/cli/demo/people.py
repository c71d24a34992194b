"""The people of the demo: their tokens of the API, and what they do on the pages of the dashboard."""

from __future__ import annotations

import contextlib
import html
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256

import httpx

from reconciler.cli.demo.script import StepFailed

ANSWER_S = 30.0
_FORM = re.compile(r'name="form" value="([0-9a-f]{64})"')
_ROW = re.compile(r"<tr\b.*?</tr>", re.DOTALL)
_DIGEST = re.compile(r"sha256: ?([0-9a-f]{8})[0-9a-f]{56}")
_TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a token of the API. The token is new in every demo."""

    name: str
    role: str
    may: str
    token: str = field(default_factory=lambda: secrets.token_hex(12), repr=False)

    @property
    def configured(self) -> str:
        """The row of `server.tokens`: the hash of the token."""
        return f'{{name: {self.name}, sha256: "{sha256(self.token.encode()).hexdigest()}", role: {self.role}}}'


def people() -> dict[str, Person]:
    """Return one person a role, by name."""
    known = (
        Person("vera", "viewer", "reads"),
        Person("otto", "operator", "cancels, runs again, suspends"),
        Person("ada", "approver", "approves"),
    )
    return {person.name: person for person in known}


class DashboardVisit:
    """A person with a browser. Pages are read and forms are sent as a browser does it."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def page(self, path: str) -> str:
        """Return the HTML of a page. Raises `StepFailed` if it is not shown."""
        answer = self._client.get(path)
        if answer.status_code != 200:
            raise StepFailed(f"the dashboard answered {path} with {answer.status_code}")
        return answer.text

    def press(self, action: str, place: str, **fields: str) -> int:
        """Send the form of an action as the page ``place`` has it; returns the status of the answer."""
        form = {"form": form_of(self.page(place)), "back": place, **fields}
        return self._client.post(f"/actions/{action}", data=form).status_code

    def audited(self, *words: str) -> str:
        """Return the newest row of the audit page that contains all ``words``; empty if there is none."""
        rows = (html.unescape(" ".join(_TAG.sub(" ", row).split())) for row in _ROW.findall(self.page("/audit")))
        row = next((row for row in rows if all(word in row.split() for word in words)), "")
        return _DIGEST.sub(r"sha256:\1…", row)


@contextlib.contextmanager
def visiting(url: str, person: Person) -> Iterator[DashboardVisit]:
    """Log in at the dashboard with the person's token; log out at the end. Raises `StepFailed` if it is refused."""
    with httpx.Client(base_url=url, timeout=ANSWER_S, trust_env=False) as client:
        visit = DashboardVisit(client)
        answer = client.post("/login", data={"form": form_of(visit.page("/login")), "token": person.token})
        if answer.status_code != 303:
            raise StepFailed(f"the login of {person.name} was answered with {answer.status_code}")
        yield visit
        client.post("/logout", data={"form": form_of(visit.page("/"))})


def form_of(page: str) -> str:
    """Return the token that protects the forms of a page against other sites. Raises `StepFailed` if it has none."""
    match = _FORM.search(page)
    if match is None:
        raise StepFailed("the page has no form")
    return match[1]
