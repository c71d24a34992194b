"""Tokens of jobs: the simulated Semaphore organization as an OpenID Connect issuer.

The issuer, and the audience unless the request names another, is the organization's own address: here the sandbox's.
Facts: the token service of the provider's open server code (secrethub/open_id_connect), and how jobs ask for one.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

from reconciler.sandbox.app import Action, Call, Reply, Route
from reconciler.sandbox.job_keys import ALGORITHM, JobKeys
from reconciler.sandbox.semaphore import run_shapes as shapes
from reconciler.sandbox.semaphore.pipelines import SemaphorePipelines
from reconciler.sandbox.semaphore.records import StoredSemaphorePipeline, StoredSemaphoreWorkflow
from reconciler.sandbox.semaphore.state import SemaphoreState
from reconciler.sandbox.shapes import json_object, whole

ROOT = "/.well-known/"
VALID_S = 3600
CLAIMS = (
    "jti", "sub", "sub127", "aud", "iss", "exp", "nbf", "iat", "org_id", "prj_id", "wf_id", "ppl_id", "job_id", "repo", "actor", "tag",
    "ref", "ref_type", "branch", "pr", "job_type", "pr_branch", "repo_slug", "trg",
)  # fmt: skip
_CACHED = {"cache-control": "max-age=900, public, must-revalidate"}
_MAX_COMPACT = 127


class OrganizationJobTokens:
    """Signs tokens of jobs, and publishes the keys to check them with."""

    def __init__(self, app: SemaphoreState, pipelines: SemaphorePipelines) -> None:
        self.app, self._pipelines = app, pipelines
        self._keys = JobKeys()

    def routes(self) -> Iterable[Route]:
        """Return the paths; they need no token."""
        yield "GET", f"{ROOT}openid-configuration", self._configuration
        yield "GET", f"{ROOT}jwks.json", self._published
        yield "GET", f"{ROOT}jwks", self._published

    def actions(self) -> Mapping[str, Action]:
        """``job_token`` {workflow_id, pipeline_id, job_id, audience, expires_in_s, claims} and ``rotate_job_keys`` {forget}."""
        return {"job_token": self._issue, "rotate_job_keys": self._keys.rotate}

    def _configuration(self, _call: Call) -> Reply:
        about = {
            "issuer": self.app.base_url,
            "jwks_uri": f"{self.app.base_url}{ROOT}jwks.json",
            "subject_types_supported": ["public", "pairwise"],
            "response_types_supported": ["id_token"],
            "claims_supported": list(CLAIMS),
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "scopes_supported": ["openid"],
        }
        return Reply(200, about, _CACHED)

    def _published(self, _call: Call) -> Reply:
        return Reply(200, self._keys.published(), _CACHED)

    def _issue(self, options: Mapping[str, object]) -> dict[str, object]:
        """Return a token of a job of a workflow: of the first one, unless another is named; ``claims`` replace its own."""
        return self._keys.signed({**self._claims(options), **json_object(options.get("claims"))})

    def _claims(self, options: Mapping[str, object]) -> dict[str, object]:
        now = int(self.app.clock())
        workflow = self.app.workflows_by_id()[str(options["workflow_id"])]
        number = str(options.get("pipeline_id") or workflow["initial_ppl_id"])
        pipeline = next((row for row in self._pipelines.of(workflow["wf_id"]) if row["ppl_id"] == number), None)
        jobs = [row["id"] for row in pipeline["jobs"]] if pipeline is not None else []
        job = str(options.get("job_id") or (jobs or [""])[0])
        if pipeline is None or job not in jobs:
            raise LookupError("the workflow has no such pipeline, or this has no such job")
        return {
            "iss": self.app.base_url,
            "aud": str(options.get("audience") or self.app.base_url),
            "iat": now,
            "nbf": now,
            "exp": now + whole(options.get("expires_in_s", VALID_S)),
            "jti": uuid.uuid4().hex,
            "job_type": "pipeline_job",
            "wf_id": workflow["wf_id"],
            "ppl_id": pipeline["ppl_id"],
            "job_id": job,
            "actor": workflow["requester_id"],
            "trg": _trigger(workflow, pipeline),
            **self._place(workflow),
        }

    def _place(self, workflow: StoredSemaphoreWorkflow) -> dict[str, str]:
        """Return the claims about organization, project and reference, and the subjects derived from them."""
        reference, project = workflow["reference"], workflow["project"]
        org, kind = self.app.records["organization"], shapes.reference_type(reference).replace("_", "-")
        number = reference.rpartition("/")[2] if kind == "pull-request" else ""
        short = {"branch": "br", "tag": "tg", "pull-request": "pr"}[kind]
        whole = f"project:{workflow['project_id']}:repo:{project}:ref_type:{kind}:ref:{reference}"
        compact = (org["name"][:25], workflow["project_id"], project[:25], short, reference.removeprefix("refs/")[:35])
        return {
            "sub": f"org:{org['name']}:{whole}",
            "sub127": ":".join(part.replace(":", "") for part in compact)[:_MAX_COMPACT],
            "org": org["name"],
            "org_id": org["id"],
            "prj": project,
            "prj_id": workflow["project_id"],
            "repo": project,
            "repo_slug": f"acme/{project}",
            "ref": reference,
            "ref_type": kind,
            "branch": shapes.branch_name(reference) if kind == "branch" else "",
            "tag": reference.removeprefix("refs/tags/") if kind == "tag" else "",
            "pr": number,
            "pr_branch": shapes.branch_name(reference) if number else "",
        }


def _trigger(workflow: StoredSemaphoreWorkflow, pipeline: StoredSemaphorePipeline) -> str:
    """Return the trigger: of the workflow (hook, schedule, api, manual) and whether it is a rerun, then the same of the pipeline."""
    rerun, rebuilt = ("t" if origin else "f" for origin in (workflow["rerun_of"], pipeline["partial_rerun_of"]))
    return f"{workflow['triggered_by'][0].lower()}:{rerun}-{'n' if pipeline['promotion_of'] else 'i'}:{rebuilt}"
