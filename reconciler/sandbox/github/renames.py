"""What happens to repositories and organizations of the GitHub simulator: renames, transfers, archiving, the end.

An id stays for ever. A former name redirects to it until another repository takes the name; ``/orgs/FORMER`` answers 404 at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from reconciler.sandbox.github.state import GitHubState


class Moves:
    """Handlers of what is done to a repository as a whole, without an API call."""

    def __init__(self, app: GitHubState) -> None:
        self.app = app

    def actions(self) -> Mapping[str, Callable[[Mapping[str, Any]], Any]]:
        """``rename`` {from, to}, to another owner too; ``rename_organization`` {from, to}; ``delete_repository`` {repository};
        ``archive`` {repository, archived: true}.
        """
        return {
            "rename": self._rename,
            "rename_organization": self._rename_organization,
            "delete_repository": self._delete,
            "archive": self._archive,
        }

    def _rename(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Hooks and all else that hangs on the id go with it. Raises `ValueError` for a name that is taken."""
        state, old, new = self.app.state, str(options["from"]), str(options["to"])
        if self.app.named(new) not in {None, old}:
            raise ValueError(f"the repository {new} exists already")
        repo = state["repos"].pop(old)
        state["repos"][new] = repo
        state["renamed"][old] = repo["id"]
        if old in state["workflows"]:
            state["workflows"][new] = state["workflows"].pop(old)
        self.app.reindex()
        return {"id": repo["id"]}

    def _rename_organization(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Its repositories redirect from their former names; it does not itself."""
        state, old, new = self.app.state, str(options["from"]), str(options["to"])
        state["orgs"][new] = state["orgs"].pop(old)
        if f"orgs/{old}" in state["hooks"]:
            state["hooks"][f"orgs/{new}"] = state["hooks"].pop(f"orgs/{old}")
        for name in [name for name in state["repos"] if name.partition("/")[0] == old]:
            self._rename({"from": name, "to": f"{new}/{name.partition('/')[2]}"})
        return {"id": state["orgs"][new]["id"]}

    def _delete(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Its hooks are gone with it; its name, and every former one, answers 404."""
        state, name = self.app.state, str(options["repository"])
        repo = state["repos"].pop(name)
        state["hooks"].pop(f"repos/{repo['id']}", None)
        state["workflows"].pop(name, None)
        self.app.reindex()
        return {"id": repo["id"]}

    def _archive(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Everything can be read, and nothing written (403)."""
        repo = self.app.state["repos"][str(options["repository"])]
        repo["archived"] = bool(options.get("archived", True))
        self.app.reindex()
        return {"archived": repo["archived"]}
