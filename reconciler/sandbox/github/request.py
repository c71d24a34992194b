"""Parts of every request to the GitHub simulator: JSON bodies, refusals, pages, ETags, repositories that moved. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import urlencode

from reconciler.sandbox.app import Call, RefusedCall, Reply
from reconciler.sandbox.github import shapes as shapes
from reconciler.sandbox.shapes import is_object

T = TypeVar("T")


def refuse(
    status: int, message: str, *, errors: list[object] | None = None, headers: Mapping[str, str] | None = None
) -> RefusedCall:
    """Return the refusal to raise."""
    return RefusedCall(Reply(status, shapes.error(message, status, errors), headers or {}))


def invalid(resource: str, message: str = "Validation Failed", /, **error: object) -> RefusedCall:
    """Return a 422; ``error`` is its one entry of ``errors``."""
    return refuse(422, message, errors=[{"resource": resource, **error}] if error else None)


def body_of(call: Call) -> dict[str, object]:
    """Return the body; raises a 400 unless it is a JSON object or nothing."""
    try:
        body = call.json()
    except ValueError:
        raise refuse(400, "Problems parsing JSON") from None
    if body is None:
        return {}
    if not is_object(body):
        raise refuse(400, "Body should be a JSON object")
    return body


def text_of(body: Mapping[str, object], field: str, default: str | None = None) -> str:
    """Return a text field; raises GitHub's 422 if it is missing (without a default) or no text."""
    value = body.get(field, default)
    if value is None:
        raise refuse(422, f'Invalid request.\n\n"{field}" wasn\'t supplied.')
    if not isinstance(value, str):
        raise refuse(422, f"Invalid request.\n\nFor 'properties/{field}', {value!r} is not a string.")
    return value


def limited(resource: str, body: Mapping[str, object], field: str, most: int, default: str | None = None) -> str:
    """Return a text field as `text_of`; raises the 422 for more than ``most`` characters, and for one above U+FFFF."""
    value = text_of(body, field, default)
    if len(value) > most:
        raise invalid(resource, code="custom", field=field, message=f"{field} is too long (maximum is {most} characters)")
    if any(ord(char) > 0xFFFF for char in value):
        raise invalid(resource, code="custom", field=field, message=f"{field} contains unicode characters above 0xffff")
    return value


def link_of(resource: str, body: Mapping[str, object], field: str) -> str:
    """Return a link; raises the 422 for one that is not http or https."""
    value = text_of(body, field, "") if body.get(field) is not None else ""
    if value and not re.match(r"https?://[^\s/]", value):
        raise invalid(resource, code="custom", field=field, message=f"{field} must use http(s) scheme")
    return value


def flag_of(body: Mapping[str, object], field: str, *, default: bool) -> bool:
    """Return a boolean field; raises GitHub's 422 for anything else."""
    value = body.get(field, default)
    if not isinstance(value, bool):
        raise refuse(422, f"Invalid request.\n\nFor 'properties/{field}', {value!r} is not a boolean.")
    return value


def object_of(body: Mapping[str, object], field: str, most: int) -> dict[str, object]:
    """Return an object of at most ``most`` properties; raises GitHub's 422 for anything else."""
    value = body.get(field)
    if value is None:
        return {}
    if not is_object(value):
        raise refuse(422, f"Invalid request.\n\nFor 'properties/{field}', {value!r} is not an object.")
    if len(value) > most:
        raise refuse(422, f"Invalid request.\n\nNo more than {most} properties are allowed; {len(value)} were supplied.")
    return value


def page_of(call: Call, items: list[T], path: str, cap: int) -> tuple[list[T], dict[str, str]]:
    """Return one page of ``items`` and its Link header; ``path`` is the one that links have, ``cap`` a smaller page size (or 0)."""
    size = _number(call.query.get("per_page"), 30, 100)
    size = min(size, cap or size)
    page = _number(call.query.get("page"), 1, 1_000_000)
    last = max(1, -(-len(items) // size))
    links = [("prev", page - 1), ("first", 1)] if 1 < page <= last + 1 else []
    links += [("next", page + 1), ("last", last)] if page < last else []
    kept = urlencode({key: value for key, value in call.query.items() if key != "page"})
    prefix = f"{call.base_url}{path}?{kept}{'&' if kept else ''}"
    header = ", ".join(f'<{prefix}page={number}>; rel="{rel}"' for rel, number in links)
    return items[(page - 1) * size : page * size], {"link": header} if header else {}


def etag(call: Call, content: bytes) -> str:
    """Return the ETag, which depends on who asks: another token sees another one for the same body.

    Observed, not documented (github.com/bored-engineer/github-conditional-http-transport): a header that is absent leaves no colon.
    """
    seen = "".join(f"{call.headers[name]}:" for name in ("accept", "authorization", "cookie") if name in call.headers)
    return f'W/"{hashlib.sha256(seen.encode() + content).hexdigest()}"'


def moved(call: Call, number: int, former: str, root: str = "") -> RefusedCall:
    """Return the redirect to where a repository is now: by its id, below ``root`` or the address of the request."""
    rest = call.path[len(f"/repos/{former}") :]
    query = "&".join(f"{key}={value}" for key, value in call.query.items())
    url = f"{root or call.base_url}/repositories/{number}{rest}" + (f"?{query}" if query else "")
    status, message = (301, "Moved Permanently") if call.method in ("GET", "HEAD") else (307, "Temporary Redirect")
    return RefusedCall(Reply(status, {"message": message, "url": url, "documentation_url": shapes.DOCS}, {"location": url}))


def _number(text: str | None, default: int, most: int) -> int:
    return min(most, int(text)) if text is not None and re.fullmatch(r"[1-9]\d{0,8}", text) else default
