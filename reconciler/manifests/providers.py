"""How each provider spells its names and URLs: what it can have none of is refused before it is asked. Pure."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from reconciler.model.event_types import EVENT_TYPES, is_event

_ACCOUNT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,38})\Z")
_REPOSITORY = re.compile(r"[A-Za-z0-9._-]{1,100}\Z")
_PATH = re.compile(r"[A-Za-z0-9_.-]{1,255}\Z")
_WORKSPACE = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,98}[a-z0-9])?\Z")
_GLOB = {
    "github": re.compile(r"[A-Za-z0-9._*?\[\]!-]+\Z"),
    "workspace": re.compile(r"[a-z0-9_*?\[\]!-]+\Z"),
    "buddy": re.compile(r"[A-Za-z0-9._*?\[\]!-]+\Z"),
}
_PAGES = frozenset({
    "orgs", "organizations", "users", "enterprises", "settings", "apps", "marketplace", "login", "about", "topics", "search",
    "sponsors", "features", "notifications", "repos", "api", "new", "explore", "collections", "codespaces", "issues", "pulls",
})  # fmt: skip
"""First parts of a path on github.com that are pages of GitHub's own, never an account."""
Wrong = tuple[str, str]
"""(message, hint)"""


def account_problem(kind: str, url: str) -> Wrong | None:
    """Return what is wrong with the URL of an Integration of type ``kind``: the account is read out of it."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return None  # said of its spelling already
    path = [part for part in parts.path.split("/") if part]
    if kind == "github":
        return _github_account(path)
    if kind == "semaphore":
        return _semaphore_account(host, path)
    if kind == "buddy" and (len(path) > 1 or (path and not _WORKSPACE.match(path[0]))):
        return "the URL names no workspace of Buddy", "For example https://app.buddy.works/WORKSPACE."
    return None


def _github_account(path: list[str]) -> Wrong | None:
    hint = "For example https://github.com/ACCOUNT."
    if not 1 <= len(path) <= 2:
        return "the URL names no GitHub account", hint
    if path[0].lower() in _PAGES:
        meant = path[1] if len(path) == 2 and _ACCOUNT.match(path[1]) else "ACCOUNT"
        return f"the URL names no GitHub account: /{path[0]}/ is a page of GitHub's own", f"Write https://github.com/{meant}."
    if not _ACCOUNT.match(path[0]):
        return f"'{path[0]}' is no name that a GitHub account can have", hint
    return None if len(path) == 1 or _is_repository(path[1]) else (f"'{path[1]}' is no name that a repository can have", hint)


def _semaphore_account(host: str, path: list[str]) -> Wrong | None:
    hint = "For example https://ORGANIZATION.semaphoreci.com."
    if path and host.endswith(".semaphoreci.com"):
        return "the URL of a Semaphore organization has no path", hint
    try:
        ipaddress.ip_address(host)
    except ValueError:
        cloud = host == "semaphoreci.com" or host.endswith(".semaphoreci.com")
        if "." not in host.strip(".") or (cloud and host.count(".") != 2):
            return "the URL names no organization", hint
    return None


def _is_repository(name: str) -> bool:
    return bool(_REPOSITORY.match(name)) and name not in {".", ".."} and not name.lower().endswith(".git")


def name_problem(provider: str, kind: str, name: str) -> Wrong | None:
    """Return why ``name`` can be no ``kind`` (repository, organization, project …) of ``provider``."""
    parts = name.split("/")
    if provider == "github" and kind == "organization" and not _ACCOUNT.match(name):
        return f"'{name}' is no name that an organization can have", "Write its name as in its URL, without a slash."
    if provider == "github" and kind == "repository":
        owner = parts[0] if len(parts) == 2 else "x"
        if len(parts) > 2 or not _ACCOUNT.match(owner) or not _is_repository(parts[-1]):
            return f"'{name}' is no name that a repository can have", "Write `repo`, or `owner/repo`."
    if provider == "semaphore" and name.startswith("/"):
        return f"'{name}' is no name that a project can have", "For many projects use `resource.match`."
    if provider == "buddy" and kind == "workspace" and not _WORKSPACE.match(name):
        return f"'{name}' is no name that a workspace can have", "Write its domain as in its URL, in lower case."
    if provider == "buddy" and kind == "project" and (len(parts) > 2 or not all(_PATH.match(part) for part in parts)):
        return f"'{name}' is no name that a project can have", "Write `project`, or `workspace/project`, as in its URL."
    if provider == "gitlab" and not all(_PATH.match(part) for part in parts):
        return f"'{name}' is no path that a {kind} can have", "For example `group/project`."
    return None


def match_problem(provider: str, kind: str, pattern: str) -> Wrong | None:
    """Return why the glob ``pattern`` can match no ``kind`` of ``provider``."""
    if provider == "github" and kind == "organization":
        return "organizations are named, not matched", "Use `name` or `names`."
    owner, slash, rest = pattern.rpartition("/")
    if provider == "github" and ((slash and not _ACCOUNT.match(owner)) or not _GLOB["github"].match(rest)):
        return f"'{pattern}' matches no name that a repository can have", "For example `svc-*`, or `owner/svc-*`."
    if provider == "buddy" and not _GLOB["workspace" if kind == "workspace" else "buddy"].match(pattern):
        return f"'{pattern}' matches no name that a {kind} can have", f"The names of the {kind}s are matched: no slash, no space."
    if provider == "semaphore" and pattern.startswith("/"):
        return f"'{pattern}' matches no name that a project can have", "A pattern has `*` and `?`; it is no regular expression."
    return None


def source_problems(provider: str, spec: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield (code, pointer, message, hint) of what an event source of ``provider`` names that there cannot be."""
    wanted = spec.get("resource", {})
    kind = str(wanted.get("type", ""))
    given = {"/spec/resource/name": wanted["name"]} if "name" in wanted else {}
    given |= {f"/spec/resource/names/{index}": name for index, name in enumerate(wanted.get("names", ()))}
    seen: set[str] = set()
    for pointer, name in given.items():
        wrong = name_problem(provider, kind, name)
        if wrong is not None:
            yield "RC1276", pointer, *wrong
        folded = name.casefold() if provider == "github" else name
        if folded in seen:
            yield "RC1208", pointer, f"{name!r} is given twice: case does not count", "Keep one of them."
        seen.add(folded)
    if "match" in wanted and (wrong := match_problem(provider, kind, wanted["match"])) is not None:
        yield "RC1276", "/spec/resource/match", *wrong
    yield from _events(provider, spec)


def _events(provider: str, spec: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for index, event in enumerate(spec.get("events", ())):
        name = str(event["type"])
        if not is_event(provider, name):
            known = EVENT_TYPES[provider]
            spelled = (name.upper() if provider == "buddy" else name.lower()).replace("-", "_").replace(" ", "_")
            near = difflib.get_close_matches(spelled, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}."
            yield "RC1277", f"/spec/events/{index}/type", f"{provider} sends no event {name!r}", hint


def stage_problems(provider: str, spec: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield the same of what the executor of a stage runs."""
    resource = spec["executor"].get("resource", {})
    name = resource.get("name", "${{")  # it may be given by its id
    wrong = None if "${{" in name else name_problem(provider, resource["type"], name)  # a template is bounded by `allow`
    if wrong is not None:
        yield "RC1276", "/spec/executor/resource/name", *wrong


__all__ = ["account_problem", "match_problem", "name_problem", "source_problems", "stage_problems"]
