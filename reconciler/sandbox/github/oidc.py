"""Tokens of jobs: the GitHub simulator as an OpenID Connect issuer, like ``https://token.actions.githubusercontent.com``.

Facts: docs, actions/reference/openid-connect-reference. The issuer's address is ``URL/_services/token``,
as that of an Enterprise server.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

from reconciler.sandbox.app import Action, Call, Reply, Route
from reconciler.sandbox.github.records import StoredRun
from reconciler.sandbox.github.runs import Runs
from reconciler.sandbox.github.state import GitHubState
from reconciler.sandbox.job_keys import ALGORITHM, JobKeys
from reconciler.sandbox.shapes import json_object, whole

DEFAULTS: Mapping[str, object] = {
    "immutable_subject": False,  # sub with the ids of owner and repository, as for those made since 2026-07-15
    "enterprise": "",  # slug of an enterprise with an issuer of its own
}
ROOT = "/_services/"
VALID_S = 300


class JobTokens:
    """Signs tokens of runs, and publishes the keys to check them with."""

    def __init__(self, app: GitHubState, runs: Runs) -> None:
        self.app = app
        self._runs = runs
        self._keys = JobKeys()

    def open_routes(self) -> Iterable[Route]:
        """Return the routes that need no token."""
        known = f"{ROOT}token/.well-known"
        yield "GET", f"{known}/openid-configuration", self._configuration
        yield "GET", f"{known}/jwks", self._published
        own = f"{ROOT}token/{{enterprise}}/.well-known"
        yield "GET", f"{own}/openid-configuration", self._configuration
        yield "GET", f"{own}/jwks", self._published

    def actions(self) -> Mapping[str, Action]:
        """``job_token`` {repo, run_id, audience?, environment?, expires_in_s?, claims?} and ``rotate_job_keys`` {forget?}."""
        return {"job_token": self._issue, "rotate_job_keys": self._keys.rotate}

    @property
    def issuer(self) -> str:
        """What tokens name as ``iss``."""
        enterprise = str(self.app.settings["enterprise"])
        return f"{self.app.base_url}{ROOT}token" + (f"/{enterprise}" if enterprise else "")

    def _configuration(self, _call: Call, enterprise: str = "") -> Reply:
        return Reply(
            200,
            {
                "issuer": self.issuer,
                "jwks_uri": f"{self.issuer}/.well-known/jwks",
                "subject_types_supported": ["public", "pairwise"],
                "response_types_supported": ["id_token"],
                "claims_supported": ["sub", "aud", "exp", "iat", "iss", "jti", "nbf", *self._claims_of_runs()],
                "id_token_signing_alg_values_supported": [ALGORITHM],
                "scopes_supported": ["openid"],
            },
        )

    @staticmethod
    def _claims_of_runs() -> list[str]:
        names = "ref sha repository repository_id repository_owner repository_owner_id run_id run_number run_attempt"
        return [*names.split(), "actor", "event_name", "ref_type", "workflow", "workflow_ref", "job_workflow_ref"]

    def _published(self, _call: Call, enterprise: str = "") -> Reply:
        return Reply(200, self._keys.published())

    def _issue(self, options: Mapping[str, object]) -> dict[str, object]:
        """Return a token of a run; ``claims`` replace its own, to make wrong ones."""
        return self._keys.signed({**self._claims(options), **json_object(options.get("claims"))})

    def _claims(self, options: Mapping[str, object]) -> dict[str, object]:
        run, name = self._runs.named(options), str(options["repo"])
        owner, now = self.app.user(name.partition("/")[0]), int(self.app.clock())
        environment = options.get("environment")
        workflow_ref = f"{name}/{run['path']}@{run['ref']}"
        claims: dict[str, object] = {
            "iss": self.issuer,
            "sub": self._subject(name, run, owner["id"], environment),
            "aud": str(options.get("audience") or owner["html_url"]),
            "jti": str(uuid.uuid4()),
            "iat": now,
            "nbf": now - VALID_S,
            "exp": now + whole(options.get("expires_in_s", VALID_S)),
            "repository": name,
            "repository_id": str(run["repository_id"]),
            "repository_owner": owner["login"],
            "repository_owner_id": str(owner["id"]),
            "repository_visibility": self.app.shown(self.app.base_url, name)["visibility"],
            "run_id": str(run["id"]),
            "run_number": str(run["run_number"]),
            "run_attempt": str(len(run["attempts"])),
            "actor": run["actor"],
            "actor_id": str(self.app.user(run["actor"])["id"]),
            "event_name": run["event"],
            "ref": run["ref"],
            "ref_type": "tag" if run["ref"].startswith("refs/tags/") else "branch",
            "sha": run["head_sha"],
            "workflow": run["name"],
            "workflow_ref": workflow_ref,
            "workflow_sha": run["head_sha"],
            "job_workflow_ref": workflow_ref,
            "job_workflow_sha": run["head_sha"],
            "runner_environment": "github-hosted",
        }
        return {**claims, "environment": environment} if environment else claims

    def _subject(self, name: str, run: StoredRun, owner_id: object, environment: object) -> str:
        owner, _, repo = name.partition("/")
        if self.app.settings["immutable_subject"]:
            name = f"{owner}@{owner_id}/{repo}@{run['repository_id']}"
        return f"repo:{name}:environment:{environment}" if environment else f"repo:{name}:ref:{run['ref']}"
