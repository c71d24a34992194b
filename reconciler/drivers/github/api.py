"""Names and URLs: repositories, scopes, and the marker that is the path of a hook's URL. Pure.

Repositories and organizations that were renamed: GitHub answers with a redirect to the same path by id.

The forms in which GitHub writes a time, as seconds since the epoch. Pure.

RFC 3339 with ``Z``, with an offset, with fractions; and seconds as a number (``repository.pushed_at`` of a push).
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from reconciler.drivers.base import Api
from reconciler.model.errors import Moved, ProviderProtocolError, ValidationFailed
from reconciler.model.objects import Marker, Scope
from reconciler.model.values import Uid

REPOSITORY = "github/repository-webhook"
ORGANIZATION = "github/organization-webhook"
SECRET = "/config/secret"
MASK = re.compile(r"\*+\Z")
_MARKER = re.compile(r"/hooks/(?P<owner>[^/]+)/(?P<uid>[0-9a-f]{20})\Z")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}\Z")


def repository_key(name: str, account: str) -> str:
    """Return ``owner/repo`` in lower case: GitHub's names are one name in any case. ``name`` may leave the owner out.

    Raises `ValidationFailed` for what is no name; it would end up in a URL's path.
    """
    parts = name.split("/") if "/" in name else [account, name]
    if len(parts) != 2 or not all(_NAME.match(part) and part not in {".", ".."} for part in parts):
        raise ValidationFailed(f"'{name}' is no repository", hint="Write `repo`, or `owner/repo`.")
    return "/".join(parts).lower()


def organization_key(name: str) -> str:
    """Return the organization's name in lower case; raises `ValidationFailed` for what is no name."""
    if not _NAME.match(name) or name in {".", ".."}:
        raise ValidationFailed(f"'{name}' is no organization", hint="Write the organization's name as in its URL.")
    return name.lower()


def scope_path(scope: Scope) -> str:
    """Return the API path of the repository or organization."""
    return f"/orgs/{scope.key}" if scope.type == ORGANIZATION else f"/repos/{scope.key}"


def page_url(web_root: str, scope: Scope, external_id: str) -> str:
    """Return where a person sees the hook."""
    kind = "organizations/" if scope.type == ORGANIZATION else ""
    return f"{web_root}/{kind}{scope.key}/settings/hooks/{external_id}"


def marker_of(url: str) -> Marker | None:
    """Return the marker in a hook's URL: any host, any prefix of the path, any query; None if it is not ours."""
    try:
        found = _MARKER.search(urlsplit(url).path)
    except ValueError:
        return None
    return Marker(found["owner"], Uid(found["uid"])) if found else None


def host_of(url: str) -> str:
    """Return the host of a hook's URL in lower case, with its port if it names one; empty if there is none."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
    except ValueError:
        return ""


def normalized(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a hook's attributes in the one form that is compared; a secret or its mask is never among them."""
    config = attributes.get("config")
    config = config if isinstance(config, Mapping) else {}
    events = attributes.get("events")
    kept = {
        "url": str(config.get("url") or ""),
        "content_type": str(config.get("content_type") or "form"),  # what GitHub takes when nothing is said
        "insecure_ssl": "1" if str(config.get("insecure_ssl", "0")) == "1" else "0",  # "0", 0 and absent are one
    }
    names = sorted({str(one) for one in events}) if isinstance(events, list | tuple) else []
    return {"active": attributes.get("active", True) is not False, "events": names, "config": kept}


T = TypeVar("T")
_BY_ID = re.compile(r"(?:/(?!repos/|orgs/)[^/]+)*?(/(?:repositories|organizations)/[1-9]\d{0,18})(?=/|\Z)")


def renamed_to(target: str) -> str:
    """Return ``/repositories/ID`` of a redirect's target; empty for any other place.

    A server behind a proxy names its own inner scheme, host, port or prefix there. The id is asked for on our own root all the same.
    """
    try:
        found = _BY_ID.match(urlsplit(target).path)
    except ValueError:
        return ""
    return found.group(1) if found is not None else ""


def by_id(target: str) -> str:
    """Return ``/repositories/ID`` of a redirect; raises `ProviderProtocolError` for any other place."""
    found = renamed_to(target)
    if not found:
        raise ProviderProtocolError("GitHub redirects to a place that is no renamed repository")
    return found


async def following(api: Api, root: str, work: Callable[[str], Awaitable[T]]) -> T:
    """Return what ``work`` does below ``root`` (``/repos/acme/web``), or below where that was renamed to.

    A request that is redirected has done nothing, so that ``work`` may begin again: its first request tells.
    """
    try:
        return await work(root)
    except Moved as moved:
        return await work(by_id(moved.target))


_END = 253_402_300_800.0
"""The year 10000: no clock of a provider is there."""


def epoch_of(value: Any) -> float | None:
    """Return when ``value`` is, in seconds since the epoch; None for what is no time."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            moment = datetime.datetime.fromisoformat(value)
            value = (moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
    return float(value) if isinstance(value, int | float) and 0 < value < _END else None


def stamp_of(at: float) -> str:
    """Return ``at`` (seconds since the epoch) as GitHub's search takes it, in whole seconds: ``2026-11-21T05:38:12Z``."""
    return datetime.datetime.fromtimestamp(int(at), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
