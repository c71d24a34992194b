"""Shared state of the GitHub simulator: the caller's token and rights, names and ids, lookups, and pages."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeVar, cast

from reconciler.sandbox.app import Call, Simulator
from reconciler.sandbox.github import run_shapes, shapes
from reconciler.sandbox.github.records import (
    GitHubRecords,
    GitHubToken,
    GitHubWorkflow,
    StoredApp,
    StoredHook,
    StoredInstallation,
    StoredRun,
)
from reconciler.sandbox.github.request import moved, page_of, refuse
from reconciler.sandbox.github.rights import REPO_SCOPES, accepted, lacking

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HookOwner:
    """What a path names: ``key`` in the state (``repos/101``, ``orgs/acme``), ``path`` and ``link_path`` in URLs."""

    key: str
    path: str
    link_path: str
    organization: bool
    repository_id: int | None
    name: str


class GitHubState(Simulator):
    """The state of the simulator, as every part sees it."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._names: dict[str, str] = {}
        self._by_id: dict[int, str] = {}
        self._shown: dict[tuple[str, str], dict[str, object]] = {}
        self.token: GitHubToken | None = None
        self.acting_app: StoredApp | None = None
        self.required_permission = ""
        super().__init__(clock=clock)

    @property
    def records(self) -> GitHubRecords:
        """The state, by type."""
        return cast("GitHubRecords", self.state)

    # names and ids

    def reindex(self) -> None:
        """Rebuild the indexes by name and id."""
        self._names = {name.lower(): name for name in self.records["repos"]}
        self._by_id = {repo["id"]: name for name, repo in self.records["repos"].items()}
        self._shown.clear()

    def named(self, full_name: str) -> str | None:
        """Return a repository's name as it is written now, for the name in any case; None for an unknown name."""
        return self._names.get(full_name.lower())

    def named_by_id(self, repository_id: int) -> str | None:
        """Return what a repository is called now; None if there is none with this id."""
        return self._by_id.get(repository_id)

    def name_of(self, repository_id: int) -> str:
        """Return what a repository is called now; raises `KeyError` if it is gone."""
        return self._by_id[repository_id]

    # rights

    def sees(self, full_name: str) -> bool:
        """Whether the token of this request sees a repository."""
        if not self.records["repos"][full_name]["private"]:
            return True
        if self.token is None:
            return False
        if self.token["installation_id"]:
            return self._within(self.token, full_name)
        if self.token["kind"] == "classic" and not REPO_SCOPES & set(self.token["scopes"]):
            return False
        allowed = self.token["repos"]
        return allowed == "*" or any(fnmatchcase(full_name.lower(), pattern.lower()) for pattern in allowed)

    def covers(self, installation: StoredInstallation, full_name: str) -> bool:
        """Whether a repository is among those of an installation."""
        owner = full_name.partition("/")[0]
        return owner.lower() == installation["account"].lower() and (
            installation["repository_selection"] == "all"
            or self.records["repos"][full_name]["id"] in installation["repository_ids"]
        )

    def repositories_of(self, installation: StoredInstallation) -> list[str]:
        """Return the names of the repositories of an installation."""
        return [name for name in self.records["repos"] if self.covers(installation, name)]

    def own_app(self) -> StoredApp:
        """Return the App whose JSON web token came with this request."""
        if self.acting_app is None:
            raise refuse(401, "A JSON web token could not be decoded")
        return self.acting_app

    def own_installation(self, installation_id: str) -> tuple[StoredApp, StoredInstallation]:
        """Return the App of this request and its installation; raises a 404 for that of another App."""
        app = self.own_app()
        installation = self.records["installations"].get(installation_id)
        if installation is None or installation["app_id"] != app["id"]:
            raise refuse(404, "Not Found")
        return app, installation

    def subscribed(self, event: str, account: str, full_name: str = "") -> list[tuple[StoredApp, StoredInstallation]]:
        """Return the Apps that get an event of an organization or of a repository: an App without an active hook gets none."""
        return [
            (app, row)
            for row in self.records["installations"].values()
            if not row["suspended_at"]
            and (self.covers(row, full_name) if full_name else row["account"].lower() == account.lower())
            and event in row["events"]
            and (app := self.records["apps"][str(row["app_id"])])["hook"]["active"]
        ]

    def _within(self, token: GitHubToken, full_name: str) -> bool:
        """Whether a repository is among those of a token that an App minted."""
        chosen = token["repository_ids"]
        installation = self.records["installations"][str(token["installation_id"])]
        return self.covers(installation, full_name) and (chosen is None or self.records["repos"][full_name]["id"] in chosen)

    def _stay_within(self, *, account: str = "", full_name: str = "") -> None:
        """Raise the 403 of a token that an App minted, for an organization or a public repository outside its installation."""
        token = self.token
        if token is None or not token["installation_id"]:
            return
        own = self.records["installations"][str(token["installation_id"])]["account"].lower()
        if not (self._within(token, full_name) if full_name else account.lower() == own):
            raise refuse(403, "Resource not accessible by integration")

    def require(self, permission: str, *, write: bool) -> None:
        """Raise the refusal GitHub gives when the token lacks ``permission``."""
        self.required_permission = accepted(permission, write=write)
        refusal = lacking(self.token, permission, write=write)
        if refusal is not None:
            raise refusal

    def target(self, call: Call, where: Mapping[str, str], *, write: bool, permission: str = "webhooks") -> HookOwner:
        """Return what the path names, after checking that the token has ``permission`` there; follows no rename."""
        if "org" in where or "org_id" in where:
            known = self.organization_named(where)
            self.require("organization_hooks", write=write)
            self._stay_within(account=known)
            return HookOwner(
                f"orgs/{known}", f"/orgs/{known}", f"/organizations/{self.records['orgs'][known]['id']}", True, None, known
            )
        full_name = self.repository_named(call, where)
        repo = self.records["repos"][full_name]
        self.require(permission, write=write)
        self._stay_within(full_name=full_name)
        if write and repo["archived"]:
            raise refuse(403, "Repository was archived so is read-only.")
        return HookOwner(
            f"repos/{repo['id']}", f"/repos/{full_name}", f"/repositories/{repo['id']}", False, repo["id"], full_name
        )

    def organization_named(self, where: Mapping[str, str]) -> str:
        """Return the organization that a path names by its login or its id; raises a 404."""
        login, number = where.get("org", "").lower(), where.get("org_id", "")
        for name, org in self.records["orgs"].items():
            if login == name.lower() or number == str(org["id"]):
                return name
        raise refuse(404, "Not Found")

    def repository_named(self, call: Call, where: Mapping[str, str]) -> str:
        """Return the repository that a path names by its name or its id; raises a redirect or a 404."""
        if "repo_id" in where:
            number = int(where["repo_id"]) if where["repo_id"].isdigit() else 0
            full_name = self._by_id.get(number)
        else:
            requested = f"{where['owner']}/{where['repo']}"
            full_name = self._names.get(requested.lower())
            number = self._renamed(requested)
            if full_name is None and number in self._by_id and self.sees(self._by_id[number]):
                raise moved(call, number, requested, str(self.settings["links_root"]))
        if full_name is None or not self.sees(full_name):
            raise refuse(404, "Not Found")
        return full_name

    def _renamed(self, former: str) -> int:
        return next((number for name, number in self.records["renamed"].items() if name.lower() == former.lower()), 0)

    def follow(self, call: Call, former: str) -> None:
        """Raise the redirect of a repository that had the name ``former``, whoever asks."""
        number = self._renamed(former)
        if number in self._by_id:
            raise moved(call, number, former, str(self.settings["links_root"]))

    def hooks_of(self, owner: HookOwner) -> list[StoredHook]:
        """Return the hooks of a repository or an organization."""
        return self.records["hooks"].setdefault(owner.key, [])

    def hook_named(self, call: Call, where: Mapping[str, str], *, write: bool) -> tuple[HookOwner, StoredHook]:
        """Return the hook that a path names, and its owner; raises a 404."""
        owner = self.target(call, where, write=write)
        hook = next((hook for hook in self.hooks_of(owner) if str(hook["id"]) == where["hook_id"]), None)
        if hook is None:
            raise refuse(404, "Not Found")
        return owner, hook

    def workflows_of(self, name: str) -> list[GitHubWorkflow]:
        """Return the workflows of a repository."""
        return self.records["workflows"].get(name, [])

    def workflow_named(self, name: str, key: str) -> GitHubWorkflow:
        """Return a workflow by id or file name; raises a 404."""
        for workflow in self.workflows_of(name):
            if key in (str(workflow["id"]), workflow["path"].rpartition("/")[2]):
                return workflow
        raise refuse(404, "Not Found")

    # how it looks

    def shown(self, base_url: str, full_name: str) -> dict[str, object]:
        """Return a repository as answers and payloads show it; one object for all, not to be changed."""
        if (base_url, full_name) not in self._shown:
            owner = self.user(full_name.partition("/")[0], base_url)
            self._shown[base_url, full_name] = shapes.repository(base_url, full_name, self.records["repos"][full_name], owner)
        return self._shown[base_url, full_name]

    def user(self, login: str, base_url: str = "") -> dict[str, object]:
        """Return a user or an organization as answers and payloads show it."""
        organization = self.records["orgs"].get(login)
        known = organization or self.records["users"].get(login) or {"id": 1}
        kind = "Organization" if organization else "Bot" if login.endswith("[bot]") else "User"
        return shapes.user(base_url or self.base_url, login, known["id"], kind)

    @property
    def login(self) -> str:
        """Who makes this request."""
        return self.token["login"] if self.token is not None else "ghost"

    def shown_workflow(self, name: str, run: StoredRun) -> dict[str, object] | None:
        """Return the workflow of a run as payloads show it; None if it was deleted."""
        workflow = next((row for row in self.workflows_of(name) if row["id"] == run["workflow_id"]), None)
        return run_shapes.workflow(workflow, self.shown(self.base_url, name)) if workflow is not None else None

    def page(self, call: Call, items: list[T], path: str = "") -> tuple[list[T], dict[str, str]]:
        """Return one page of ``items`` and its Link header; ``path`` is the one that links have."""
        root = str(self.settings["links_root"])
        call = dataclasses.replace(call, base_url=root) if root else call
        return page_of(call, items, path or call.path, int(self.number("page_size")))
