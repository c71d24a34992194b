"""What an answer means where the driver has no rule of its own: values and typed errors, pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict
from urllib.parse import urljoin, urlsplit

import orjson

from reconciler.drivers.auth import ApiResponse
from reconciler.drivers.http.budget import MAX_STOP_S, rate_of
from reconciler.drivers.http.clock import http_date
from reconciler.model.errors import (
    AuthFailed,
    Conflict,
    Declined,
    Moved,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    ProviderError,
    ProviderProtocolError,
    ProviderUnavailable,
    RateLimited,
    ValidationFailed,
)

REDIRECTS = frozenset({301, 302, 307, 308})
_SECONDS = re.compile(r"[0-9]{1,9}")
_PAGE = re.compile(r"\s*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_MEASURES = re.compile(
    r"\b\d+\s*(?:characters?|chars|bytes|[kmg]i?b|digits)\b|\btoo (?:long|short)\b|\bno more than \d+ (?:properties|inputs|keys)\b",
    re.IGNORECASE,
)
_CIRCUMSTANCES = re.compile(
    r"\b(?:more than|limit\w*|quotas?|exceed\w*|too many|maximum|max|reached|run out|plan|billing|payment|paid|upgrade|subscription"
    r"|trial|temporar\w*|try again|retry|later|time[ds]? ?out|busy|locked|in progress|unavailable|overload\w*|maintenance"
    r"|suspended|disabled|archived|read.only|abuse|spam\w*|flagged|blocked|permissions?|forbidden|not authori[sz]ed|not permitted"
    r"|internal error|something went wrong)\b",
    re.IGNORECASE,
)


class Where(TypedDict):
    """The answer that an error is about."""

    status: int
    request: str
    """"METHOD /path", without a query."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer, decoded and size-capped; implements `reconciler.drivers.base.ApiResponse`.

    ``request`` is "METHOD /path", without a query.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    request: str

    @property
    def wrote(self) -> bool:
        """Whether the request may have changed something."""
        return self.request.partition(" ")[0] not in {"GET", "HEAD", "QUERY"}

    def json(self) -> object:
        """Return the decoded body.

        Raises `ProviderProtocolError` if it is not JSON; after a write `OutcomeUnknown`: the write took effect, or a proxy answered.
        """
        try:
            answer: object = orjson.loads(self.content)
            return answer
        except orjson.JSONDecodeError:
            form = "an HTML page" if self.content.lstrip()[:1] == b"<" else "a body that is not JSON"
            error = OutcomeUnknown if self.wrote else ProviderProtocolError
            raise error(
                f"{self.request} was answered {self.status} with {form}",
                status=self.status,
                request=self.request,
                hint="Check `apiUrl`: a proxy or a login page may answer in place of the API.",
            ) from None

    @property
    def text(self) -> str:
        """The body as text, undecodable bytes replaced."""
        return self.content.decode("utf-8", "replace")

    def body(self) -> object:
        """Return the body for a driver's ``classify``: decoded JSON, or the first 2,000 characters of any other body."""
        try:
            answer: object = orjson.loads(self.content)
            return answer
        except orjson.JSONDecodeError:
            return self.content[:8_000].decode("utf-8", "replace")[:2_000]


def shared_error(response: ApiResponse, now: float) -> ProviderError:  # noqa: PLR0911  a table of statuses
    """Return the typed error of a status for which the driver has no rule of its own (RFC 9110 §15)."""
    status, name = response.status, response.request
    where: Where = {"status": status, "request": name}
    if status == 401:
        return AuthFailed(f"{name}: the credential was refused (401)", **where)
    if status == 429 or (status == 403 and _rate_signal(response.headers, now)):
        return RateLimited(f"{name}: rate limit ({status})", retry_at=limited_until(response.headers, now), **where)
    if status == 403:
        return PermissionDenied(f"{name}: not permitted (403)", **where)
    if status == 404:
        return NotFound(f"{name}: not found (404)", **where)
    if status in {409, 412}:
        return Conflict(f"{name}: conflict ({status})", **where)
    if status in REDIRECTS:
        return Moved(f"{name}: moved ({status})", target=response.headers.get("location", ""), **where)
    until = retry_after(response.headers, now)
    if status == 408:
        return ProviderUnavailable(f"{name}: the request timed out (408)", retry_at=until, **where)
    if status in {400, 422} and not circumstances(response.text[:2_000]):
        return ValidationFailed(f"{name}: refused ({status})", **where)
    if 400 <= status < 500:
        return Declined(f"{name}: refused ({status})", retry_at=until, hint=_HINTS.get(status, ""), **where)
    if status >= 500:
        return ProviderUnavailable(f"{name}: the provider failed ({status})", retry_at=until, **where)
    return ProviderProtocolError(f"{name}: unexpected status {status}", **where)


def circumstances(words: str) -> bool:
    """Whether a refusal blames a circumstance that no manifest can fix (a limit, a plan, a lock, a right), and not a value's size."""
    return bool(_CIRCUMSTANCES.search(words)) and not _MEASURES.search(words)


def page_of_a_proxy(response: Response) -> ProviderError | None:
    """Return the error of a refusal that is an HTML page: a firewall, a proxy or a login answered in place of the API.

    It means nothing for the request. It may also replace the API's own answer, so the outcome of a write is unknown.
    """
    if not 400 <= response.status < 500 or response.status in {408, 429} or not is_page(response):
        return None
    text = f"{response.request} was answered {response.status} with an HTML page: by a proxy or firewall, not by the API"
    error = OutcomeUnknown if response.wrote else Declined
    return error(
        text,
        status=response.status,
        request=response.request,
        retry_at=None,
        hint="Check `apiUrl`, `network.proxy` and the firewall on the way to the provider.",
    )


def is_page(response: ApiResponse) -> bool:
    """Whether the body is an HTML page."""
    return _PAGE.match(response.content[:500].decode("utf-8", "replace")) is not None


_HINTS: Mapping[int, str] = {
    402: "The provider requires a payment or another plan.",
    407: "Add the proxy's credential to `network.proxy`.",
    413: "The provider, or a proxy before it, refuses requests of this size.",
    423: "The object is locked at the provider.",
    451: "The provider may not serve it for legal reasons.",
}


def foreign_redirect(response: Response, api_url: str) -> ProviderProtocolError | None:
    """Return the refusal of a redirect that leaves ``api_url``'s scheme, host and port; None for any other answer."""
    if response.status not in REDIRECTS:
        return None
    try:
        target = urlsplit(urljoin(api_url, response.headers.get("location", "")))
        origin, own = (target.scheme, target.hostname, target.port), urlsplit(api_url)
    except ValueError:
        origin, own = ("", None, None), urlsplit(api_url)
    if origin == (own.scheme, own.hostname, own.port):
        return None
    return ProviderProtocolError(
        f"{response.request}: redirected to another host ({origin[1]}); not followed",
        status=response.status,
        request=response.request,
        hint="Check `url` and `apiUrl`: a proxy or a login page may answer in place of the API.",
    )


def limited_until(headers: Mapping[str, str], now: float) -> float | None:
    """Return the end of a rate limit (epoch seconds): that of ``Retry-After``, else the reset of a rate with nothing left."""
    until = retry_after(headers, now)
    if until is not None:
        return until
    rate = rate_of(headers)
    reset = float(rate.get("resetAt", 0))
    return min(reset, now + MAX_STOP_S) if rate.get("remaining") == 0 and reset > now else None


def _rate_signal(headers: Mapping[str, str], now: float) -> bool:
    return "retry-after" in headers or limited_until(headers, now) is not None


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the time of ``Retry-After`` (seconds or an HTTP date, RFC 9110 §10.2.3) in epoch seconds; None without one."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if _SECONDS.fullmatch(text):
        return now + min(int(text), MAX_STOP_S)
    date = http_date(text)
    return None if date is None else min(date, now + MAX_STOP_S)
