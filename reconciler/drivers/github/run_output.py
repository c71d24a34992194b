"""What a run leaves behind: its outputs and its log.

**Outputs** are an artifact named ``reconciler-outputs`` with one file, ``outputs.json``, an object. A job uploads it with
``actions/upload-artifact``; of several (a job that ran again) the newest counts. Anybody who may change a workflow controls the
archive, so every size is bounded before it is read.

**The log** is that of each job of the newest attempt, each from the last position, with GitHub's times. GitHub shows the log of a
job when the job is over; until then its steps show the progress.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson

from reconciler.drivers.connection import Api
from reconciler.drivers.execution import read_log
from reconciler.drivers.github.api import Moment, epoch_of, read
from reconciler.drivers.github.runs import WorkflowRun, dated, listed
from reconciler.drivers.wire import matches
from reconciler.model.errors import AddressRefused, NotFound, PermissionDenied, ProviderProtocolError, ValidationFailed
from reconciler.model.executions import LogLines

NAME = "reconciler-outputs"
FILE = "outputs.json"
MAX_KEYS = 64
MAX_BYTES = 64 << 10
"""Of the archive, and of the file in it."""
LATE_S = 30.0
"""How long after a job's end its log may still be missing."""
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""Other compressions may take any amount of memory."""


class RunArtifact(msgspec.Struct, frozen=True):
    id: int
    name: str | None = None
    created_at: Moment = None
    expired: bool | None = None
    size_in_bytes: int | None = None


class JobStep(msgspec.Struct, frozen=True):
    name: str | None = None
    status: str | None = None
    conclusion: str | None = None


class WorkflowJob(msgspec.Struct, frozen=True):
    id: int
    name: str | None = None
    status: str | None = None
    conclusion: str | None = None
    completed_at: Moment = None
    steps: list[JobStep] | None = None


# -- outputs --------------------------------------------------------------------------------------------------------------


async def outputs_of(api: Api, root: str, run_id: str) -> tuple[dict[str, Any], str]:
    """Return the outputs of a finished run, and why they cannot be read; without the artifact there are none.

    Raises transient errors (`ProviderUnavailable`, `RateLimited`, `AuthFailed`): the caller then polls the run again.
    """
    try:
        rows = await listed(api, f"{root}/actions/runs/{run_id}/artifacts", list[RunArtifact], {"name": NAME})
        artifacts = [row for row in rows if row.name == NAME]
        if not artifacts:
            return {}, ""
        newest = max(artifacts, key=lambda row: (epoch_of(row.created_at) or 0.0, row.id))
        if newest.expired:
            return {}, f"the artifact {NAME} has expired"
        if (newest.size_in_bytes or 0) > MAX_BYTES:
            return {}, f"the artifact {NAME} is larger than {MAX_BYTES >> 10} KiB"
        answer = await api.download(f"{root}/actions/artifacts/{newest.id}/zip")
    except (NotFound, PermissionDenied, ValidationFailed, ProviderProtocolError, AddressRefused) as error:
        return {}, f"the artifact {NAME} cannot be read: {error.message}"
    try:
        return read_archive(answer.content), ""
    except ValueError as error:
        return {}, f"the artifact {NAME} is not used: {error}"


def read_archive(archive: bytes) -> dict[str, Any]:
    """Return the object in the archive's `FILE`; raises `ValueError` with the reason if there is none."""
    if len(archive) > MAX_BYTES:
        raise ValueError(f"the archive is larger than {MAX_BYTES >> 10} KiB")
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            content = _content(opened)
    except KeyError:
        raise ValueError(f"it has no file {FILE}") from None
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError):
        raise ValueError("it is not a readable archive") from None
    return _object(content)


def _content(archive: zipfile.ZipFile) -> bytes:
    entry = archive.getinfo(FILE)
    if entry.compress_type not in _METHODS:
        raise ValueError("its compression is not supported; use deflate")
    with archive.open(entry) as file:
        content = file.read(MAX_BYTES + 1)  # the entry's own size may be wrong
    if len(content) > MAX_BYTES:
        raise ValueError(f"{FILE} is larger than {MAX_BYTES >> 10} KiB")
    return content


def _object(content: bytes) -> dict[str, Any]:
    try:
        value: object = orjson.loads(content)
        orjson.dumps(value)  # a value that is nested too deep to be written cannot be passed on
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        raise ValueError(f"{FILE} is not a readable JSON document") from None
    outputs = matches(value, dict[str, Any])
    if outputs is None:
        raise ValueError(f"{FILE} is not an object")
    if len(outputs) > MAX_KEYS:
        raise ValueError(f"{FILE} has more than {MAX_KEYS} keys")
    return outputs


# -- logs -----------------------------------------------------------------------------------------------------------------


async def logs_of(api: Api, root: str, run_id: str, cursor: str) -> LogLines:
    """Return the log of all jobs after ``cursor``; complete when the run is, and every log was read to its end."""
    path = f"{root}/actions/runs/{run_id}"
    run = await read(api, path, WorkflowRun)
    jobs, now = await dated(api, f"{path}/jobs", list[WorkflowJob], {"filter": "latest"})

    async def read_part(part: tuple[WorkflowJob, bool]) -> tuple[list[str], bool]:
        job, is_log = part
        return await _log(api, root, job, now) if is_log else (list(steps_of(job)), job.status == "completed")

    parts = []
    for job in jobs:
        prefix = f"[{job.name}] " if len(jobs) > 1 else ""
        parts += [(f"{job.id}/steps", "", (job, False)), (str(job.id), prefix, (job, True))]
    return await read_log(parts, cursor, read_part, done=run.status == "completed")


def steps_of(job: WorkflowJob) -> Iterator[str]:
    """Yield a line for the begin of each step, and one for its end; a job that goes on only adds lines."""
    for step in job.steps or ():
        if step.status not in ("in_progress", "completed"):
            continue
        yield f"{job.name}: step '{step.name}' in progress"
        if step.status == "completed":
            yield f"{job.name}: step '{step.name}' {step.conclusion}"


async def _log(api: Api, root: str, job: WorkflowJob, now: float) -> tuple[list[str], bool]:
    """Return the log of a job, and whether it is final. A skipped job has none. ``now`` is by GitHub's clock."""
    if job.status != "completed":
        return [], False
    try:
        answer = await api.download(f"{root}/actions/jobs/{job.id}/logs")
    except NotFound:
        ended_at = epoch_of(job.completed_at) or 0.0
        return [], job.conclusion == "skipped" or now - ended_at > LATE_S
    except (ValidationFailed, ProviderProtocolError) as error:  # expired (410), or larger than any answer may be
        return [f"(the log of job '{job.name}' cannot be shown: {error.message})"], True
    text = answer.text.removeprefix("\ufeff").removesuffix("\n")
    return [line.removesuffix("\r") for line in text.split("\n")] if text else [], True
