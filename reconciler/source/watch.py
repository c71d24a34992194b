"""Detects changes on the local disk within a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from reconciler.source.ignore import IGNORE_FILE

_DEBOUNCE_MS = 200
_STEP_MS = 50
_RETRY_S = 1.0
Filter = Callable[[object, str], bool]
"""(kind of the change, path) → whether the change is relevant."""


def manifest_filter(root: Path) -> Filter:
    """Return a filter that accepts manifests, the ignore file and folders, but not temporary files of editors."""
    real = root.resolve()

    def relevant(_change: object, path: str) -> bool:
        try:
            parts = Path(path).relative_to(real).parts
        except ValueError:
            return True
        if any(part.startswith(".") for part in parts):
            return parts == (IGNORE_FILE,) or (bool(parts) and parts[0].startswith("..data"))  # the link a mounted volume swaps
        return not parts or Path(path).suffix in {".yaml", ".yml", ""}

    return relevant


def git_filter(git_dir: Path) -> Filter:
    """Return a filter that accepts files that change when a branch moves."""
    real = git_dir.resolve()

    def relevant(_change: object, path: str) -> bool:
        try:
            parts = Path(path).relative_to(real).parts
        except ValueError:
            return True
        return not path.endswith(".lock") and bool(parts) and (parts[0] == "packed-refs" or parts[:2] == ("refs", "heads"))

    return relevant


async def watch(root: Path, relevant: Filter, closed: asyncio.Event) -> AsyncIterator[None]:
    """Yield after each burst of relevant changes below ``root``, until ``closed``. If the folder does not exist, wait for it."""
    from watchfiles import awatch

    seen = True
    while not closed.is_set():
        if (real := await asyncio.to_thread(_real, root)) is None:
            seen = False
            await _pause(closed)
            continue
        if not seen:
            seen = True
            yield
        try:
            async for changes in awatch(
                real,
                watch_filter=relevant,
                debounce=_DEBOUNCE_MS,
                step=_STEP_MS,
                stop_event=closed,
                rust_timeout=1_000,
                yield_on_timeout=True,
            ):
                if await asyncio.to_thread(_real, root) != real:  # removed, or the link to it was swapped
                    seen = False
                    break
                if changes:
                    yield
        except (FileNotFoundError, OSError):
            await _pause(closed)


async def _pause(closed: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_RETRY_S):
            await closed.wait()
    except TimeoutError:
        return


def _real(root: Path) -> Path | None:
    real = root.resolve()
    return real if real.is_dir() else None
