"""Names and URLs: repositories, scopes, and the marker that is the path of a hook's URL. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from reconciler.model.errors import ValidationFailed
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
