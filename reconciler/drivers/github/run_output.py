"""What a run hands on: an artifact named ``reconciler-outputs`` with one file, ``outputs.json``, an object.

A job makes it with ``actions/upload-artifact``; of several (a job that was run again) the newest counts. The archive comes from a
job, that is from anybody who may change a workflow: every size is bounded before it is read.

The log of a run: that of each job of its newest attempt, each from where it was left, with GitHub's times.

GitHub shows the log of a job when the job is over; until then its steps say how far it is. The cursor is JSON,
``{job id: [lines of steps, lines of the log] handed on, or null once read to the end}``.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from reconciler.drivers.base import Api
from reconciler.drivers.github.api import epoch_of
from reconciler.drivers.github.runs import Item, dated, listed
from reconciler.model.errors import AddressRefused, NotFound, PermissionDenied, ProviderProtocolError, ValidationFailed
from reconciler.model.executions import LogLines
from reconciler.model.values import canonical_json

NAME = "reconciler-outputs"
FILE = "outputs.json"
MAX_KEYS = 64
MAX_BYTES = 64 << 10
"""Of the archive, and of the file in it."""
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""Others may ask for any amount of memory."""


async def outputs_of(api: Api, root: str, run_id: str) -> tuple[dict[str, Any], str]:
    """Return the outputs of a run that has ended, and why they cannot be read; no artifact is no outputs.

    Raises what may pass (`ProviderUnavailable`, `RateLimited`, `AuthFailed`): the run is then to be looked at again.
    """
    try:
        rows = await listed(api, f"{root}/actions/runs/{run_id}/artifacts", "artifacts", {"name": NAME})
        named = [row for row in rows if row.get("name") == NAME]
        if not named:
            return {}, ""
        newest = max(named, key=lambda row: (epoch_of(row.get("created_at")) or 0.0, row["id"]))
        if newest.get("expired") is True:
            return {}, f"the artifact {NAME} has expired"
        size = newest.get("size_in_bytes")
        if isinstance(size, int) and size > MAX_BYTES:
            return {}, f"the artifact {NAME} is larger than {MAX_BYTES >> 10} KiB"
        answer = await api.download(f"{root}/actions/artifacts/{newest['id']}/zip")
    except (NotFound, PermissionDenied, ValidationFailed, ProviderProtocolError, AddressRefused) as error:
        return {}, f"the artifact {NAME} cannot be read: {error.message}"
    try:
        return read_archive(answer.content), ""
    except ValueError as error:
        return {}, f"the artifact {NAME} is not used: {error}"


def read_archive(archive: bytes) -> dict[str, Any]:
    """Return the object in the archive's `FILE`; raises `ValueError` that says what is wrong with it."""
    if len(archive) > MAX_BYTES:
        raise ValueError(f"the archive is larger than {MAX_BYTES >> 10} KiB")
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            content = _content(opened)
    except KeyError:
        raise ValueError(f"it has no file {FILE}") from None
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError):
        raise ValueError("it is no archive that can be read") from None
    return _object(content)


def _content(opened: zipfile.ZipFile) -> bytes:
    entry = opened.getinfo(FILE)
    if entry.compress_type not in _METHODS:
        raise ValueError("it is packed in a way that is not read; use deflate")
    with opened.open(entry) as file:
        content = file.read(MAX_BYTES + 1)  # what the entry says of its size is the packer's word
    if len(content) > MAX_BYTES:
        raise ValueError(f"{FILE} is larger than {MAX_BYTES >> 10} KiB")
    return content


def _object(content: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(content)
        orjson.dumps(value)  # what is nested deeper than can be written could not be handed on
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        raise ValueError(f"{FILE} is no JSON document that can be read") from None
    if not isinstance(value, Mapping):
        raise ValueError(f"{FILE} is no object")  # noqa: TRY004 - what a job wrote, no misuse of this function
    if len(value) > MAX_KEYS:
        raise ValueError(f"{FILE} has more than {MAX_KEYS} keys")
    return dict(value)


LATE_S = 30.0
"""So long after a job's end its log may not be there yet."""
Cursor = dict[str, tuple[int, int] | None]


async def logs_of(api: Api, root: str, run_id: str, cursor: str) -> LogLines:
    """Return what the jobs said after ``cursor``; complete when the run is, and every log was read to its end."""
    run = (await api.request("GET", f"{root}/actions/runs/{run_id}")).json()
    jobs, now = await dated(api, f"{root}/actions/runs/{run_id}/jobs", "jobs", {"filter": "latest"})
    positions, lines = positions_of(cursor), []
    for job in jobs:
        number = str(job["id"])
        at = positions.get(number, (0, 0))
        if at is None:
            continue
        steps = list(steps_of(job))
        said, ended = await _log(api, root, job, now)
        lines += steps[at[0] :]
        lines += [f"[{job.get('name')}] {line}" if len(jobs) > 1 else line for line in said[at[1] :]]
        positions[number] = None if ended else (max(at[0], len(steps)), max(at[1], len(said)))
    complete = isinstance(run, Mapping) and run.get("status") == "completed"
    complete = complete and all(positions.get(str(job["id"])) is None for job in jobs)
    return LogLines(tuple(lines), canonical_json(positions).decode(), complete)


def steps_of(job: Item) -> Iterator[str]:
    """Yield a line for each step that began, and one for each that ended; more come at the end only."""
    steps = job.get("steps")
    for step in steps if isinstance(steps, list) else ():
        if not isinstance(step, Mapping) or step.get("status") not in ("in_progress", "completed"):
            continue
        yield f"{job.get('name')}: step '{step.get('name')}' in progress"
        if step["status"] == "completed":
            yield f"{job.get('name')}: step '{step.get('name')}' {step.get('conclusion')}"


async def _log(api: Api, root: str, job: Item, now: float) -> tuple[list[str], bool]:
    """Return the lines of a job, and whether there will be no more. A job that was skipped has none. ``now`` is GitHub's."""
    if job.get("status") != "completed":
        return [], False
    try:
        answer = await api.download(f"{root}/actions/jobs/{job['id']}/logs")
    except NotFound:
        ended = epoch_of(job.get("completed_at")) or 0.0
        return [], job.get("conclusion") == "skipped" or now - ended > LATE_S
    except (ValidationFailed, ProviderProtocolError) as error:  # expired (410), or larger than any answer may be
        return [f"(the log of job '{job.get('name')}' cannot be shown: {error.message})"], True
    text = answer.text.removeprefix("\ufeff").removesuffix("\n")
    return [line.removesuffix("\r") for line in text.split("\n")] if text else [], True


def positions_of(cursor: str) -> Cursor:
    """Return the positions in ``cursor``; none for a text that is no cursor."""
    try:
        found: Any = orjson.loads(cursor) if cursor else {}
    except orjson.JSONDecodeError:
        found = {}
    positions: Cursor = {}
    for job, at in found.items() if isinstance(found, dict) else ():
        if at is None:
            positions[job] = None
        elif isinstance(at, list) and len(at) == 2 and all(isinstance(part, int) and part >= 0 for part in at):
            positions[job] = (at[0], at[1])
    return positions
