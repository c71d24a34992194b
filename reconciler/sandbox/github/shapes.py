"""How the GitHub simulator's answers look, with the shapes of GitHub's OpenAPI description. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from reconciler.sandbox.github.records import GitHubRepository, StoredDelivery, StoredHook

MASK = "********"
DOCS = "https://docs.github.com/rest"
NO_COMMIT = "0" * 40
"""What stands for "no commit" in a push that makes or deletes a branch."""
_REPO_URLS = (
    "assignees{/user}",
    "branches{/branch}",
    "collaborators{/collaborator}",
    "comments{/number}",
    "commits{/sha}",
    "contributors",
    "deployments",
    "downloads",
    "events",
    "forks",
    "hooks",
    "issues{/number}",
    "keys{/key_id}",
    "labels{/name}",
    "languages",
    "merges",
    "milestones{/number}",
    "notifications{?since,all,participating}",
    "pulls{/number}",
    "releases{/id}",
    "stargazers",
    "statuses/{sha}",
    "subscribers",
    "subscription",
    "tags",
    "teams",
)
_ODD_REPO_URLS = {
    "archive_url": "/{archive_format}{/ref}",
    "blobs_url": "/git/blobs{/sha}",
    "compare_url": "/compare/{base}...{head}",
    "contents_url": "/contents/{+path}",
    "git_commits_url": "/git/commits{/sha}",
    "git_refs_url": "/git/refs{/sha}",
    "git_tags_url": "/git/tags{/sha}",
    "issue_comment_url": "/issues/comments{/number}",
    "issue_events_url": "/issues/events{/number}",
    "trees_url": "/git/trees{/sha}",
}
_WHOLE_REPO_URLS = frozenset({"clone_url", "git_url", "ssh_url", "svn_url", "mirror_url"})
_USER_URLS = (
    "followers",
    "subscriptions",
    "organizations=orgs",
    "repos",
    "received_events",
    "following=following{/other_user}",
    "gists=gists{/gist_id}",
    "starred=starred{/owner}{/repo}",
    "events=events{/privacy}",
)
_COUNTS = (
    "forks",
    "forks_count",
    "open_issues",
    "open_issues_count",
    "size",
    "stargazers_count",
    "watchers",
    "watchers_count",
    "network_count",
    "subscribers_count",
)


def stamp(at: float) -> str:
    """Return ``2026-11-21T05:38:12Z``."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def error(message: str, status: int, errors: list[object] | None = None) -> dict[str, object]:
    """Return an error body: ``status`` is a string there."""
    body: dict[str, object] = {"message": message, "documentation_url": DOCS, "status": str(status)}
    if errors is not None:
        body["errors"] = errors
    return body


def user(base: str, login: str, number: int, kind: str = "User") -> dict[str, object]:
    """Return a "simple user": an owner or a sender."""
    url = f"{base}/users/{login}"
    urls = {}
    for entry in _USER_URLS:
        name, _, path = entry.partition("=")
        urls[f"{name}_url"] = f"{url}/{path or name}"
    return {
        "login": login,
        "id": number,
        "node_id": f"U_{number}",
        "avatar_url": f"{base}/avatars/{number}",
        "gravatar_id": "",
        "url": url,
        "html_url": f"https://github.com/{login}",
        **urls,
        "type": kind,
        "site_admin": False,
    }


def private_user(base: str, login: str, number: int) -> dict[str, object]:
    """Return the user that a token belongs to."""
    zero = dict.fromkeys(
        (
            "public_gists",
            "public_repos",
            "followers",
            "following",
            "collaborators",
            "disk_usage",
            "owned_private_repos",
            "private_gists",
            "total_private_repos",
        ),
        0,
    )
    none = dict.fromkeys(("name", "company", "location", "email", "hireable", "bio"))
    return {
        **user(base, login, number),
        **none,
        **zero,
        "blog": "",
        "created_at": "2020-01-01T00:00:00Z",
        "updated_at": "2020-01-01T00:00:00Z",
        "two_factor_authentication": True,
        "user_view_type": "private",
    }


def repository(base: str, full_name: str, repo: GitHubRepository, owner: Mapping[str, object]) -> dict[str, object]:
    """Return a "full repository"; lists show the same."""
    name = full_name.partition("/")[2]
    url, html = f"{base}/repos/{full_name}", f"https://github.com/{full_name}"
    urls = {entry.partition("{")[0].partition("/")[0] + "_url": f"{url}/{entry}" for entry in _REPO_URLS}
    urls |= {key: url + path for key, path in _ODD_REPO_URLS.items()}
    switches = {
        "has_issues": True,
        "has_projects": True,
        "has_wiki": True,
        "has_pages": False,
        "has_downloads": True,
        "has_discussions": False,
        "disabled": False,
        "fork": False,
    }
    return {
        "id": repo["id"],
        "node_id": f"R_{repo['id']}",
        "name": name,
        "full_name": full_name,
        "private": repo["private"],
        "owner": dict(owner),
        "html_url": html,
        "description": None,
        "url": url,
        **urls,
        "clone_url": f"{html}.git",
        "git_url": f"git://github.com/{full_name}.git",
        "ssh_url": f"git@github.com:{full_name}.git",
        "svn_url": html,
        "mirror_url": None,
        "homepage": None,
        "language": None,
        "license": None,
        "default_branch": repo["default_branch"],
        "visibility": "private" if repo["private"] else "public",
        "is_template": False,
        "web_commit_signoff_required": False,
        "topics": [],
        "custom_properties": {},
        "archived": repo["archived"],
        **switches,
        **dict.fromkeys(_COUNTS, 0),
        "created_at": "2020-01-01T00:00:00Z",
        "updated_at": "2020-01-01T00:00:00Z",
        "pushed_at": "2020-01-01T00:00:00Z",
    }


def hook(url: str, stored: StoredHook, *, organization: bool) -> dict[str, object]:
    """Return a hook; its secret is stars where there is one. ``url`` is its own."""
    shown: dict[str, object] = {
        "type": "Organization" if organization else "Repository",
        "id": stored["id"],
        "name": stored["name"],
        "active": stored["active"],
        "events": list(stored["events"]),
        "config": config(stored["config"]),
        "updated_at": stored["updated_at"],
        "created_at": stored["created_at"],
        "url": url,
    }
    if not organization:
        shown |= {"test_url": f"{url}/tests", "last_response": dict(stored["last_response"])}
    return {**shown, "ping_url": f"{url}/pings", "deliveries_url": f"{url}/deliveries"}


def config(stored: Mapping[str, str]) -> dict[str, str]:
    """Return a hook's config as shown: every secret is masked."""
    return {key: MASK if key in ("secret", "password") else value for key, value in stored.items()}


def delivery(stored: StoredDelivery, *, whole: bool) -> dict[str, object]:
    """Return a delivery, with request and response if ``whole``."""
    left_out = () if whole else ("url", "request", "response")
    return {key: value for key, value in stored.items() if key not in left_out}


def in_payload(repo: Mapping[str, object]) -> dict[str, object]:
    """Return a repository as payloads show it: without two counts that only answers have."""
    return {key: value for key, value in repo.items() if key not in ("network_count", "subscribers_count")}


def lite(repo: Mapping[str, object]) -> dict[str, object]:
    """Return a repository as runs repeat it: little more than its links."""
    urls = {key: value for key, value in repo.items() if key.endswith("_url") and key not in _WHOLE_REPO_URLS}
    own = ("id", "node_id", "name", "full_name", "owner", "private", "description", "fork", "url")
    return {**{key: repo[key] for key in own}, **urls}


@dataclass(frozen=True, slots=True)
class CommitAbout:
    """Message, author and time of a commit."""

    message: str = "Change something"
    author: str = "sandbox-bot"
    at: str = "2026-01-01T00:00:00Z"


def commit(repo: Mapping[str, object], sha: str, about: CommitAbout, author: Mapping[str, object]) -> dict[str, object]:
    """Return a commit."""
    url, git = f"{repo['url']}/commits/{sha}", f"{repo['url']}/git"
    who = {"name": about.author, "email": email(about.author), "date": about.at}
    unsigned = {"verified": False, "reason": "unsigned", "signature": None, "payload": None, "verified_at": None}
    return {
        "sha": sha,
        "node_id": f"C_{sha[:12]}",
        "url": url,
        "html_url": f"{repo['html_url']}/commit/{sha}",
        "comments_url": f"{url}/comments",
        "commit": {
            "author": who,
            "committer": who,
            "message": about.message,
            "tree": {"sha": sha, "url": f"{git}/trees/{sha}"},
            "url": f"{git}/commits/{sha}",
            "comment_count": 0,
            "verification": unsigned,
        },
        "author": dict(author),
        "committer": dict(author),
        "parents": [],
    }


def simple_commit(sha: str, about: CommitAbout) -> dict[str, object]:
    """Return a commit as runs repeat it."""
    who = {"name": about.author, "email": email(about.author)}
    return {"id": sha, "tree_id": sha, "message": about.message, "timestamp": about.at, "author": who, "committer": who}


def email(login: str) -> str:
    """Return the address that GitHub gives who hides theirs."""
    return f"{login}@users.noreply.github.com"


def organization(base: str, login: str, number: int) -> dict[str, object]:
    """Return an organization as payloads show it."""
    url = f"{base}/orgs/{login}"
    paths = {"hooks": "", "issues": "", "members": "{/member}", "public_members": "{/member}", "repos": "", "events": ""}
    return {
        "login": login,
        "id": number,
        "node_id": f"O_{number}",
        "url": url,
        **{f"{name}_url": f"{url}/{name}{rest}" for name, rest in paths.items()},
        "avatar_url": f"{base}/avatars/{number}",
        "description": "",
    }


@dataclass(frozen=True, slots=True)
class Push:
    """What was pushed: ``ref`` is whole (``refs/heads/main``); ``commits`` are (sha, message, author), oldest first."""

    ref: str
    sha: str
    before: str = NO_COMMIT
    commits: Sequence[tuple[str, str, str]] = ()
    at: str = "2026-01-01T00:00:00Z"


def push(repo: Mapping[str, object], sender: Mapping[str, object], pushed: Push) -> dict[str, object]:
    """Return the payload of a push; of a deletion it has no commit, and of an annotated tag ``after`` is the tag's own object."""
    deleted = pushed.sha == NO_COMMIT
    given = pushed.commits or ([] if deleted else [(pushed.sha, "Change something", str(sender["login"]))])
    commits = [_pushed_commit(repo, pushed, sha, message, author) for sha, message, author in given]
    at = int(datetime.fromisoformat(pushed.at).timestamp())
    return {
        "ref": pushed.ref,
        "before": pushed.before,
        "after": pushed.sha,
        "created": pushed.before == NO_COMMIT,
        "deleted": deleted,
        "forced": False,
        "base_ref": None,
        "compare": f"{repo['html_url']}/compare/{pushed.before[:12]}...{pushed.sha[:12]}",
        "commits": [] if pushed.ref.startswith("refs/tags/") else commits,
        "head_commit": commits[-1] if commits else None,
        "repository": {**in_payload(repo), "pushed_at": at},
        "pusher": {"name": sender["login"], "email": None},
        "sender": dict(sender),
    }


def _pushed_commit(repo: Mapping[str, object], pushed: Push, sha: str, message: str, author: str) -> dict[str, object]:
    who = {"name": author, "email": None, "username": author}
    return {
        "id": sha,
        "tree_id": sha,
        "distinct": True,
        "message": message,
        "timestamp": pushed.at,
        "url": f"{repo['html_url']}/commit/{sha}",
        "author": who,
        "committer": who,
        "added": [],
        "removed": [],
        "modified": ["README.md"],
    }
