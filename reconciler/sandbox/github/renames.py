"""Renames, transfers, archiving and deletion of repositories and organizations of the GitHub simulator.

An id never changes. A former name redirects to it until another repository takes the name; ``/orgs/FORMER`` answers 404 at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.sandbox.app import Action
from reconciler.sandbox.github.state import GitHubState


class Moves:
    """Handlers of the actions on a whole repository."""

    def __init__(self, app: GitHubState) -> None:
        self.app = app

    def actions(self) -> Mapping[str, Action]:
        """``rename`` {from, to}, to another owner too; ``rename_organization`` {from, to}; ``delete_repository`` {repository};
        ``archive`` {repository, archived: true}.
        """
        return {
            "rename": self._rename,
            "rename_organization": self._rename_organization,
            "delete_repository": self._delete,
            "archive": self._archive,
        }

    def _rename(self, options: Mapping[str, object]) -> dict[str, object]:
        """Hooks and everything else with the id move along. Raises `ValueError` for a name that is taken."""
        state, old, new = self.app.records, str(options["from"]), str(options["to"])
        if self.app.named(new) not in {None, old}:
            raise ValueError(f"the repository {new} exists already")
        repo = state["repos"].pop(old)
        state["repos"][new] = repo
        state["renamed"][old] = repo["id"]
        if old in state["workflows"]:
            state["workflows"][new] = state["workflows"].pop(old)
        self.app.reindex()
        return {"id": repo["id"]}

    def _rename_organization(self, options: Mapping[str, object]) -> dict[str, object]:
        """Its repositories redirect from their former names; the organization does not."""
        state, old, new = self.app.records, str(options["from"]), str(options["to"])
        state["orgs"][new] = state["orgs"].pop(old)
        if f"orgs/{old}" in state["hooks"]:
            state["hooks"][f"orgs/{new}"] = state["hooks"].pop(f"orgs/{old}")
        for name in [name for name in state["repos"] if name.partition("/")[0] == old]:
            self._rename({"from": name, "to": f"{new}/{name.partition('/')[2]}"})
        return {"id": state["orgs"][new]["id"]}

    def _delete(self, options: Mapping[str, object]) -> dict[str, object]:
        """Delete a repository and its hooks. Its name and all former names answer 404."""
        state, name = self.app.records, str(options["repository"])
        repo = state["repos"].pop(name)
        state["hooks"].pop(f"repos/{repo['id']}", None)
        state["workflows"].pop(name, None)
        self.app.reindex()
        return {"id": repo["id"]}

    def _archive(self, options: Mapping[str, object]) -> dict[str, object]:
        """Archive a repository: reads work, writes answer 403."""
        repo = self.app.records["repos"][str(options["repository"])]
        repo["archived"] = bool(options.get("archived", True))
        self.app.reindex()
        return {"archived": repo["archived"]}
