"""Installation access tokens of the GitHub simulator: minted for an hour, as narrow as the request, revoked."""

from __future__ import annotations

import secrets
import string
from collections.abc import Iterable, Mapping

from reconciler.sandbox.app import Call, Reply, Route
from reconciler.sandbox.github.app_rules import valid_permissions, wider
from reconciler.sandbox.github.records import StoredApp, StoredInstallation
from reconciler.sandbox.github.request import body_of, refuse
from reconciler.sandbox.github.shapes import stamp
from reconciler.sandbox.github.state import GitHubState
from reconciler.sandbox.shapes import fits, texts, whole

LIFE_S = 3600.0
MOST_REPOSITORIES = 500
_ALPHABET = string.ascii_letters + string.digits
_NO_REPOSITORY = "There is at least one repository that does not exist or is not accessible to the parent installation."


class InstallationTokens:
    """Handles ``…/access_tokens`` and ``/installation/token``."""

    def __init__(self, app: GitHubState) -> None:
        self.app = app

    def routes(self) -> Iterable[Route]:
        yield "POST", "/app/installations/{installation_id}/access_tokens", self._mint
        yield "DELETE", "/installation/token", self._revoke

    def drop(self, installation_id: int) -> None:
        """Forget all tokens of an installation that is gone."""
        tokens = self.app.records["tokens"]
        for value in [value for value, token in tokens.items() if token["installation_id"] == installation_id]:
            del tokens[value]

    def _mint(self, call: Call, installation_id: str) -> Reply:
        app, installation = self.app.own_installation(installation_id)
        if installation["suspended_at"]:
            raise refuse(403, "This installation has been suspended")
        body = body_of(call)
        permissions = self._permissions(installation, body)
        chosen = self._chosen(installation, body)
        value, now = new_token(app, call), self.app.clock()
        self._prune(now)
        login = f"{app['slug']}[bot]"
        if login not in self.app.records["users"]:
            self.app.records["users"][login] = {"id": self.app.next_id()}
        self.app.records["tokens"][value] = {
            "login": login,
            "kind": "installation",
            "scopes": [],
            "permissions": permissions,
            "repos": [],
            "expires_at": "",
            "installation_id": installation["id"],
            "ends_at": now + LIFE_S,
            "repository_ids": chosen,
        }
        answer: dict[str, object] = {
            "token": value,
            "expires_at": stamp(now + LIFE_S),
            "permissions": permissions,
            "repository_selection": installation["repository_selection"] if chosen is None else "selected",
        }
        if chosen is not None:
            answer["repositories"] = [self.app.shown(call.base_url, self.app.name_of(number)) for number in chosen]
        return Reply(201, answer)

    def _permissions(self, installation: StoredInstallation, body: Mapping[str, object]) -> dict[str, str]:
        requested = valid_permissions(body.get("permissions"))
        if wider(requested, {"metadata": "read", **installation["permissions"]}):
            raise refuse(422, "The permissions requested are not granted to this installation.")
        return {"metadata": "read", **(requested or installation["permissions"])}

    def _chosen(self, installation: StoredInstallation, body: Mapping[str, object]) -> list[int] | None:
        """Return the ids of the requested repositories; None if none are requested."""
        names, numbers = body.get("repositories"), body.get("repository_ids")
        if not fits(names or [], list[str]) or not fits(numbers or [], list[int]):
            raise refuse(422, "Invalid request.\n\nNo subschema in \"anyOf\" matched for 'repositories' or 'repository_ids'.")
        if not names and not numbers:
            return None
        wanted: list[str | None] = [self.app.named(f"{installation['account']}/{name}") for name in texts(names)]
        wanted += [self.app.named_by_id(number) for number in map(whole, texts(numbers))]
        if len(wanted) > MOST_REPOSITORIES:
            raise refuse(422, f"Invalid request.\n\nNo more than {MOST_REPOSITORIES} repositories can be requested.")
        known = [name for name in wanted if name is not None and self.app.covers(installation, name)]
        if len(known) != len(wanted):
            raise refuse(422, _NO_REPOSITORY)
        return list(dict.fromkeys(self.app.records["repos"][name]["id"] for name in known))

    def _prune(self, now: float) -> None:
        tokens = self.app.records["tokens"]
        for value in [value for value, token in tokens.items() if token["ends_at"] and token["ends_at"] < now - LIFE_S]:
            del tokens[value]

    def _revoke(self, call: Call) -> Reply:
        token = self.app.token
        if token is None or not token["installation_id"]:
            raise refuse(403, "You must authenticate with an installation access token in order to revoke it.")
        tokens = self.app.records["tokens"]
        del tokens[next(value for value, known in tokens.items() if known is token)]
        return Reply(204)


def new_token(app: StoredApp, call: Call) -> str:
    """Return a token: some 520 characters with two dots, or 40 in the former form that a header requests."""
    if call.headers.get("x-github-stateless-s2s-token", "").lower() == "disabled":
        return "ghs_" + _random(36)
    return f"ghs_{app['id']}_{_random(80)}.{_random(260)}.{_random(170)}"


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
