"""Logs and artifacts of workflow runs: GitHub answers a redirect to a link that needs no token and holds for a minute.

Lines of a log appear over the time that its run works. A run's ``outputs`` become the artifact ``reconciler-outputs``, with one file
``outputs.json``; ``artifacts`` of a workflow are ``{NAME: {FILE: TEXT}}``. Artifacts are there when a run has ended.
"""

from __future__ import annotations

import hashlib
import io
import uuid
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler.sandbox.app import Call, Reply, Route
from reconciler.sandbox.github.records import RunJob, StoredArtifact, StoredRun
from reconciler.sandbox.github.request import refuse
from reconciler.sandbox.github.run_shapes import Phase, phase_at
from reconciler.sandbox.github.runs import Runs
from reconciler.sandbox.github.shapes import stamp
from reconciler.sandbox.github.state import GitHubState

DEFAULTS: Mapping[str, object] = {"link_valid_s": 60.0}  # of links to logs and artifacts
KEPT_S = 90 * 86_400.0
KEPT_LINK_S = 600.0
"""How long an expired link stays distinguishable from an unknown one."""


@dataclass(frozen=True, slots=True)
class _Link:
    expires_at: float
    content_type: str
    content: bytes


class _KeptArtifact(StoredArtifact):
    """An artifact, and when it appeared."""

    at: float


class SimulatedLogs:
    """Handles logs and artifacts, and the links they redirect to."""

    def __init__(self, app: GitHubState, runs: Runs) -> None:
        self.app = app
        self._runs = runs
        self._links: dict[str, _Link] = {}

    def routes(self, prefix: str) -> Iterable[Route]:
        """Return the routes below a repository."""
        run = f"{prefix}/actions/runs/{{run_id}}"
        yield from (
            ("GET", f"{run}/logs", self._run_log),
            ("GET", f"{prefix}/actions/jobs/{{job_id}}/logs", self._job_log),
            ("GET", f"{run}/artifacts", self._list),
            ("GET", f"{prefix}/actions/artifacts/{{artifact_id}}/{{archive}}", self._artifact),
        )

    def open_routes(self, root: str) -> Iterable[Route]:
        """Return the routes that need no token."""
        yield "GET", f"{root}links/{{key}}", self._open

    # logs

    def _run_log(self, call: Call, **where: str) -> Reply:
        _, run = self._runs.find(call, where, write=False)
        files = {
            f"{number}_{job['name']}.txt": self._text(run, job, phases)
            for number, job in enumerate(run["attempts"][-1]["jobs"])
            if len(phases := self._runs.job_phases(run, job)) > 1
        }
        if not files:
            raise refuse(404, "Not Found")
        return self._redirect("application/zip", zipped(files))

    def _job_log(self, call: Call, **where: str) -> Reply:
        run, job = self._runs.find_job(call, where)
        phases = self._runs.job_phases(run, job)
        if len(phases) < 2:
            raise refuse(404, "Not Found")
        return self._redirect("text/plain; charset=utf-8", self._text(run, job, phases).encode())

    def _text(self, run: StoredRun, job: RunJob, phases: list[Phase]) -> str:
        """Return the lines that have appeared, each with its time, as GitHub writes them."""
        attempt, lines = run["attempts"][job["attempt"] - 1], job["logs"]
        began = phases[1].at
        last = phases[-1]
        until = last.at if last.status == "completed" else self.app.clock()
        whole = attempt["duration_s"] or 0.0
        partly = last.status == "in_progress" or last.conclusion == "cancelled"
        count = min(len(lines), int(len(lines) * (until - began) / whole)) if partly and whole else len(lines)
        pace = whole / max(1, len(lines))
        times = (stamp(began + pace * (number + 1)).replace("Z", ".0000000Z") for number in range(count))
        return "".join(f"{at} {line}\n" for at, line in zip(times, lines, strict=False))

    # artifacts

    def _made(self, run: StoredRun) -> list[_KeptArtifact]:
        ended = [(row, phase_at(row, self.app.clock())) for row in run["attempts"]]
        return [
            {**artifact, "at": phase.at}
            for attempt, phase in ended
            if phase.status == "completed" and phase.conclusion != "cancelled"
            for artifact in attempt["artifacts"]
        ]

    def _list(self, call: Call, **where: str) -> Reply:
        target, run = self._runs.find(call, where, write=False)
        name = call.query.get("name")
        artifacts = [row for row in self._made(run) if name in (None, row["name"])]
        page, headers = self.app.page(call, artifacts)
        base = f"{self.app.base_url}/repos/{target.name}/actions/artifacts"
        return Reply(200, {"total_count": len(artifacts), "artifacts": [_shown(base, run, row) for row in page]}, headers)

    def _artifact(self, call: Call, **where: str) -> Reply:
        target = self.app.target(call, where, write=False, permission="actions")
        if where["archive"] != "zip":
            raise refuse(404, "Not Found")
        for run in self.app.records["runs"].get(str(target.repository_id), ()):
            for artifact in self._made(run):
                if str(artifact["id"]) == where["artifact_id"]:
                    return self._redirect("application/zip", zipped(artifact["files"]))
        raise refuse(404, "Not Found")

    # links

    def _redirect(self, content_type: str, content: bytes) -> Reply:
        now = self.app.clock()
        self._links = {key: link for key, link in self._links.items() if link.expires_at + KEPT_LINK_S > now}
        key = uuid.uuid4().hex
        self._links[key] = _Link(now + self.app.number("link_valid_s"), content_type, content)
        return Reply(302, None, {"location": f"{self.app.base_url}/_actions/links/{key}"})

    def _open(self, _call: Call, key: str) -> Reply:
        link = self._links.get(key)
        if link is None:
            return Reply(404, "The specified resource does not exist.")
        if self.app.clock() > link.expires_at:
            return Reply(403, "Signature not valid in the specified time frame.")
        return Reply(200, link.content, {"content-type": link.content_type})


def zipped(files: Mapping[str, str]) -> bytes:
    """Return an archive: the same files, the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return buffer.getvalue()


def _shown(base: str, run: StoredRun, artifact: _KeptArtifact) -> dict[str, object]:
    content = zipped(artifact["files"])
    created = stamp(artifact["at"])
    number = run["repository_id"]
    return {
        "id": artifact["id"],
        "node_id": f"A_{artifact['id']}",
        "name": artifact["name"],
        "size_in_bytes": len(content),
        "url": f"{base}/{artifact['id']}",
        "archive_download_url": f"{base}/{artifact['id']}/zip",
        "expired": False,
        "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
        "created_at": created,
        "updated_at": created,
        "expires_at": stamp(artifact["at"] + KEPT_S),
        "workflow_run": {
            "id": run["id"],
            "repository_id": number,
            "head_repository_id": number,
            "head_branch": run["head_branch"],
            "head_sha": run["head_sha"],
        },
    }
