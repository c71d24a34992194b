"""GitHub Apps in the simulator: the App itself, its installations, manifests, and what happens to them.

State: ``{"apps": {"<id>": {id, client_id, slug, name, owner, public_key (PEM), permissions, events, hook}}, "installations":
{"<id>": {id, app_id, account, repository_selection, repository_ids, permissions, events, suspended_at}}}``. ``create_app`` below
``/_sandbox/do`` makes the keys, and is how most tests begin.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import parse_qs, urlencode

import orjson
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from reconciler.sandbox.app import Action, Call, Reply, Route
from reconciler.sandbox.github import app_shapes, shapes
from reconciler.sandbox.github.app_events import AppHooks, RepositoryChange
from reconciler.sandbox.github.app_rules import manifest_problem, unsupported, valid_permissions
from reconciler.sandbox.github.app_tokens import InstallationTokens
from reconciler.sandbox.github.hooks import hook_config
from reconciler.sandbox.github.records import StoredApp, StoredHook, StoredInstallation
from reconciler.sandbox.github.request import refuse
from reconciler.sandbox.github.state import GitHubState
from reconciler.sandbox.shapes import fill, is_object, json_object, texts

CODE_LIFE_S = 3600.0
_KEY_BITS = 2048
_APP: Mapping[str, object] = {"description": None, "external_url": "https://example.org", "permissions": {}, "events": []}
_INSTALLATION: Mapping[str, object] = {
    "repository_selection": "all",
    "repository_ids": [],
    "permissions": {},
    "events": [],
    "suspended_at": None,
    "suspended_by": None,
}


class Apps:
    """Handles ``/app``, look-ups of installations, and manifests."""

    def __init__(self, app: GitHubState, hooks: AppHooks, tokens: InstallationTokens) -> None:
        self.app, self._hooks, self._tokens = app, hooks, tokens

    def routes(self) -> Iterable[Route]:
        item = "/app/installations/{installation_id}"
        yield from (*self._hooks.routes(), *self._tokens.routes())
        yield from (
            ("GET", "/app", self._app),
            ("GET", "/app/installations", self._list),
            ("GET", item, self._get),
            ("DELETE", item, self._delete),
            ("PUT", f"{item}/suspended", self._suspend),
            ("DELETE", f"{item}/suspended", self._unsuspend),
            ("GET", "/orgs/{org}/installation", self._of_organization),
            ("GET", "/users/{user}/installation", self._of_user),
            ("GET", "/repos/{owner}/{repo}/installation", self._of_repository),
            ("POST", "/app-manifests/{code}/conversions", self._convert),
            ("POST", "/settings/apps/new", self._confirm),
            ("POST", "/organizations/{org}/settings/apps/new", self._confirm),
        )

    def actions(self) -> Mapping[str, Action]:
        """``create_app`` {owner, title?, permissions?, events?, url?, secret?, content_type?, public_key?} returns its credentials;
        ``change_app`` {app, permissions?, events?}; ``new_app_key`` {app}; ``install_app`` {app, account, repositories?};
        ``accept_permissions``, ``suspend_installation``, ``unsuspend_installation``, ``delete_installation`` {installation};
        ``add_repositories``, ``remove_repositories`` {installation, repositories}; ``emit_to_app`` {installation, event, payload}.
        """
        return {
            "create_app": self._create,
            "change_app": self._change,
            "new_app_key": self._new_key,
            "install_app": self._install,
            "accept_permissions": self._accept,
            "suspend_installation": lambda options: self._set_suspended(options, suspended=True),
            "unsuspend_installation": lambda options: self._set_suspended(options, suspended=False),
            "delete_installation": self._uninstall,
            "add_repositories": self._add_repositories,
            "remove_repositories": self._remove_repositories,
            "emit_to_app": self._emit,
        }

    def restored(self) -> None:
        """Fill what Apps and installations that were put from outside leave out."""
        now = shapes.stamp(self.app.clock())
        for key, app in self.app.records["apps"].items():
            fill(app, {**_APP, "id": int(key), "client_id": f"Iv23sandbox{key}", "slug": f"app-{key}", "owner": "sandbox-bot"})
            fill(app, {"name": app["slug"], "public_key": "", "created_at": now, "updated_at": now})
            fill(app, {"hook": self._hook({})})
        for key, installation in self.app.records["installations"].items():
            fill(installation, {**_INSTALLATION, "id": int(key), "created_at": now, "updated_at": now})

    # answers

    def _app(self, _call: Call) -> Reply:
        return Reply(200, app_shapes.app(self.app, self.app.own_app()))

    def _list(self, call: Call) -> Reply:
        app = self.app.own_app()
        rows = [row for row in self.app.records["installations"].values() if row["app_id"] == app["id"]]
        page, headers = self.app.page(call, rows)
        return Reply(200, [app_shapes.installation(self.app, app, row) for row in page], headers)

    def _get(self, _call: Call, installation_id: str) -> Reply:
        app, installation = self.app.own_installation(installation_id)
        return Reply(200, app_shapes.installation(self.app, app, installation))

    def _delete(self, call: Call, installation_id: str) -> Reply:
        _, installation = self.app.own_installation(installation_id)
        self._uninstall({"installation": installation["id"]})
        return Reply(202 if call.headers.get("x-github-api-version", "") >= "2026-03-10" else 204)

    def _suspend(self, _call: Call, installation_id: str) -> Reply:
        _, installation = self.app.own_installation(installation_id)
        self._set_suspended({"installation": installation["id"]}, suspended=True)
        return Reply(204)

    def _unsuspend(self, _call: Call, installation_id: str) -> Reply:
        _, installation = self.app.own_installation(installation_id)
        self._set_suspended({"installation": installation["id"]}, suspended=False)
        return Reply(204)

    def _of_organization(self, _call: Call, org: str) -> Reply:
        return self._of_account(org, organization=True)

    def _of_user(self, _call: Call, user: str) -> Reply:
        return self._of_account(user, organization=False)

    def _of_account(self, login: str, *, organization: bool) -> Reply:
        app = self.app.own_app()
        groups = ("orgs",) if organization else ("users", "orgs")  # GitHub finds an organization as a user too
        known = any(name.lower() == login.lower() for group in groups for name in json_object(self.app.state[group]))
        installation = self._on(app, login) if known else None
        if installation is None:
            raise refuse(404, "Not Found")
        return Reply(200, app_shapes.installation(self.app, app, installation))

    def _of_repository(self, call: Call, owner: str, repo: str) -> Reply:
        app = self.app.own_app()
        name = self.app.named(f"{owner}/{repo}")
        if name is None:
            self.app.follow(call, f"{owner}/{repo}")
        installation = self._on(app, name.partition("/")[0]) if name else None
        if name is None or installation is None or not self.app.covers(installation, name):
            raise refuse(404, "Not Found")
        return Reply(200, app_shapes.installation(self.app, app, installation))

    def _on(self, app: StoredApp, account: str) -> StoredInstallation | None:
        rows = self.app.records["installations"].values()
        return next((row for row in rows if row["app_id"] == app["id"] and row["account"].lower() == account.lower()), None)

    # manifests

    def _confirm(self, call: Call, org: str = "") -> Reply:
        """What a person's click on GitHub's page does: redirect to the manifest's ``redirect_url`` with a code and the state."""
        if not call.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return Reply(422, "Invalid GitHub App configuration: the manifest is a field of a form")
        form = parse_qs(call.body.decode("utf-8", "replace"))
        try:
            manifest = orjson.loads(form.get("manifest", [""])[-1])
        except ValueError:
            manifest = None
        if not is_object(manifest):
            return Reply(422, "Invalid GitHub App configuration: the manifest is not JSON")
        owner = self.app.organization_named({"org": org}) if org else "sandbox-bot"
        taken = any(app["name"] == manifest.get("name") for app in self.app.records["apps"].values())
        problem = manifest_problem(manifest) or ("Name has already been taken" if taken else "")
        if problem:
            return Reply(422, f"Invalid GitHub App configuration: {problem}")
        code = secrets.token_hex(20)
        self.app.records["manifests"][code] = {
            "owner": owner,
            "manifest": manifest,
            "ends_at": self.app.clock() + CODE_LIFE_S,
        }
        query = {"code": code, **({"state": call.query["state"]} if "state" in call.query else {})}
        url = str(manifest["redirect_url"])
        return Reply(302, None, {"location": f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"})

    def _convert(self, _call: Call, code: str) -> Reply:
        row = self.app.records["manifests"].pop(code, None)
        if row is None or self.app.clock() >= row["ends_at"]:
            raise refuse(404, "Not Found")
        manifest = row["manifest"]
        hook = json_object(manifest.get("hook_attributes"))
        made = self._create(
            {
                "owner": row["owner"],
                "title": manifest["name"],
                "permissions": manifest.get("default_permissions"),
                "events": manifest.get("default_events"),
                "url": hook.get("url"),
                "active": hook.get("active", True),
                "content_type": "json",
                "external_url": manifest["url"],
            }
        )
        app = self.app.records["apps"][str(made["id"])]
        return Reply(201, {**app_shapes.app(self.app, app), **made, "client_secret": secrets.token_hex(20)})

    # what happens

    def _create(self, options: Mapping[str, object]) -> dict[str, object]:
        permissions, events = valid_permissions(options.get("permissions")), texts(options.get("events"))
        wrong = unsupported(events, permissions)
        if wrong:
            raise ValueError(f"Default events are not supported by permissions: {', '.join(wrong)}")
        number, now = self.app.next_id(), shapes.stamp(self.app.clock())
        name = str(options.get("title") or f"app {number}")
        secret = str(options.get("secret") or secrets.token_hex(20))
        pem, public = "", str(options.get("public_key") or "")
        if not public:
            pem, public = _key_pair()
        owner = str(options.get("owner") or "sandbox-bot")
        app: StoredApp = {
            "id": number,
            "client_id": f"Iv23{secrets.token_hex(8)}",
            "slug": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"),
            "name": name,
            "owner": owner,
            "description": None,
            "external_url": str(options.get("external_url") or "https://example.org"),
            "public_key": public,
            "permissions": permissions,
            "events": events,
            "hook": self._hook({**options, "secret": secret}),
            "created_at": now,
            "updated_at": now,
        }
        self.app.records["apps"][str(number)] = app
        self._hooks.ping(app)
        return {"id": number, "client_id": app["client_id"], "slug": app["slug"], "pem": pem, "webhook_secret": secret}

    def _hook(self, options: Mapping[str, object]) -> StoredHook:
        now = shapes.stamp(self.app.clock())
        given = {key: options[key] for key in ("url", "secret", "content_type") if options.get(key)}
        return {
            "id": self.app.next_id(),
            "name": "web",
            "active": bool(given.get("url")) and options.get("active", True) is not False,
            "events": [],
            "config": hook_config(given) if "url" in given else {"content_type": "form", "insecure_ssl": "0"},
            "created_at": now,
            "updated_at": now,
            "last_response": {"code": None, "status": "unused", "message": None},
        }

    def _named(self, options: Mapping[str, object]) -> StoredApp:
        wanted = str(options["app"])
        return next(app for app in self.app.records["apps"].values() if wanted in (str(app["id"]), app["slug"], app["client_id"]))

    def _installed(self, options: Mapping[str, object]) -> tuple[StoredApp, StoredInstallation]:
        installation = self.app.records["installations"][str(options["installation"])]
        return self.app.records["apps"][str(installation["app_id"])], installation

    def _change(self, options: Mapping[str, object]) -> dict[str, object]:
        """Edit the App's settings. Installations lose what it no longer requests at once, and wait for approval of the rest."""
        app = self._named(options)
        permissions = valid_permissions(options["permissions"]) if "permissions" in options else app["permissions"]
        events = texts(options["events"]) if "events" in options else app["events"]
        wrong = unsupported(events, permissions)
        if wrong:
            raise ValueError(f"Default events are not supported by permissions: {', '.join(wrong)}")
        app["permissions"], app["events"] = permissions, events
        app["updated_at"] = shapes.stamp(self.app.clock())
        for row in self.app.records["installations"].values():
            if row["app_id"] == app["id"]:
                row["permissions"] = {name: level for name, level in row["permissions"].items() if name in permissions}
                row["events"] = [event for event in events if event not in unsupported([event], row["permissions"])]
        return {"id": app["id"]}

    def _new_key(self, options: Mapping[str, object]) -> dict[str, object]:
        """Replace the private key: the former one is refused from now on."""
        app = self._named(options)
        pem, app["public_key"] = _key_pair()
        return {"pem": pem}

    def _install(self, options: Mapping[str, object]) -> dict[str, object]:
        app, account = self._named(options), str(options["account"])
        if account not in self.app.records["orgs"] and account not in self.app.records["users"]:
            raise ValueError(f"there is no account {account}")
        if self._on(app, account) is not None:
            raise ValueError(f"the App is installed on {account} already")
        number, now = self.app.next_id(), shapes.stamp(self.app.clock())
        chosen = texts(options.get("repositories"))
        installation: StoredInstallation = {
            "id": number,
            "app_id": app["id"],
            "account": account,
            "repository_selection": "selected" if "repositories" in options else "all",
            "repository_ids": self._ids(chosen),
            "permissions": dict(app["permissions"]),
            "events": list(app["events"]),
            "suspended_at": None,
            "suspended_by": None,
            "created_at": now,
            "updated_at": now,
        }
        self.app.records["installations"][str(number)] = installation
        self._hooks.installation(app, installation, "created")
        return {"installation": number}

    def _ids(self, names: Sequence[str]) -> list[int]:
        return [self.app.records["repos"][name]["id"] for name in names]

    def _accept(self, options: Mapping[str, object]) -> dict[str, object]:
        """Approve the permissions that the App requests now; its events follow."""
        app, installation = self._installed(options)
        installation["permissions"], installation["events"] = dict(app["permissions"]), list(app["events"])
        installation["updated_at"] = shapes.stamp(self.app.clock())
        self._hooks.installation(app, installation, "new_permissions_accepted")
        return {"permissions": installation["permissions"]}

    def _set_suspended(self, options: Mapping[str, object], *, suspended: bool) -> dict[str, object]:
        app, installation = self._installed(options)
        installation["suspended_at"] = shapes.stamp(self.app.clock()) if suspended else None
        installation["suspended_by"] = "sandbox-bot" if suspended else None
        self._hooks.installation(app, installation, "suspend" if suspended else "unsuspend")
        return {"suspended_at": installation["suspended_at"]}

    def _uninstall(self, options: Mapping[str, object]) -> dict[str, object]:
        app, installation = self._installed(options)
        self._hooks.installation(app, installation, "deleted")
        del self.app.records["installations"][str(installation["id"])]
        self._tokens.drop(installation["id"])
        return {}

    def _add_repositories(self, options: Mapping[str, object]) -> dict[str, object]:
        app, installation = self._installed(options)
        names = texts(options["repositories"])
        known = set(installation["repository_ids"])
        installation["repository_ids"] += [number for number in self._ids(names) if number not in known]
        self._hooks.repositories(app, installation, RepositoryChange(added=names))
        return {"repository_ids": installation["repository_ids"]}

    def _remove_repositories(self, options: Mapping[str, object]) -> dict[str, object]:
        """Remove repositories; those that stay are selected ones then."""
        app, installation = self._installed(options)
        names = texts(options["repositories"])
        gone = set(self._ids(names))
        stay = [number for number in self._ids(self.app.repositories_of(installation)) if number not in gone]
        installation["repository_selection"], installation["repository_ids"] = "selected", stay
        self._hooks.repositories(app, installation, RepositoryChange(removed=names))
        return {"repository_ids": stay}

    def _emit(self, options: Mapping[str, object]) -> dict[str, object]:
        """Send any event to the App of an installation, as it is."""
        app, installation = self._installed(options)
        return self._hooks.send(app, installation, str(options["event"]), json_object(options.get("payload")))


def _key_pair() -> tuple[str, str]:
    """Return a private key in the form of GitHub's `.pem` files (PKCS #1: BEGIN RSA PRIVATE KEY), and its public key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return private.decode(), key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


__all__ = ["Apps"]
