"""What a run hands on: an artifact named ``reconciler-outputs`` with one file, ``outputs.json``, an object.

A job makes it with ``actions/upload-artifact``; of several (a job that was run again) the newest counts. The archive comes from a
job, that is from anybody who may change a workflow: every size is bounded before it is read.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import orjson

from reconciler.drivers.base import Api
from reconciler.drivers.github.runs import listed
from reconciler.drivers.github.times import epoch_of
from reconciler.model.errors import AddressRefused, NotFound, PermissionDenied, ProviderProtocolError, ValidationFailed

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
        return read(answer.content), ""
    except ValueError as error:
        return {}, f"the artifact {NAME} is not used: {error}"


def read(archive: bytes) -> dict[str, Any]:
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
