"""Plans without credentials: desired against desired (``--base``), and against a snapshot that the daemon wrote (``--snapshot``).

Write-only values appear as references, and the digests of such plans approve nothing. They are made for pull requests, where no
secret may be near untrusted code.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from reconciler.config.settings import Config
from reconciler.model.errors import Problem, StateError, UsageError
from reconciler.model.plan import PlanSet
from reconciler.source.base import Source


async def base_plan(config: Config, ref: str, path: str | None) -> tuple[PlanSet, tuple[Problem, ...]]:
    """Return the changes of the newest revision (or of the folder ``path``) since its merge base with ``ref``."""
    from reconciler.engine.offline import compared, load_offline

    source = _open(config, path)
    try:
        before_revision, after_revision = await source.comparison(ref)
        before = await load_offline(source, before_revision, config)
        after = await load_offline(source, after_revision, config)
    finally:
        await source.close()
    return compared(before.resources, after, config).result


def _open(config: Config, path: str | None) -> Source:
    """Return the folder ``path``, or the configured source."""
    from reconciler.source import open_folder, open_source
    from reconciler.source.configured import options_of

    if path is not None:
        return open_folder(Path(path), config_name=config.file_name)
    return open_source(options_of(config), config.state_dir)


class _Snapshot(msgspec.Struct, frozen=True):
    """The snapshot that `reconciler.engine.statusfile` writes; a row is a stored resource."""

    resources: tuple[msgspec.Raw, ...]


async def snapshot_plan(config: Config, file: Path, path: str | None) -> tuple[PlanSet, tuple[Problem, ...]]:
    """Return the changes of the newest revision (or of the folder ``path``) against the daemon's snapshot."""
    from reconciler.engine.offline import compared, load_offline
    from reconciler.model.codec import resource_from_json

    try:
        rows = msgspec.json.decode(file.read_bytes(), type=_Snapshot).resources
        before = [resource_from_json(bytes(row)) for row in rows]
    except (OSError, ValueError, StateError) as error:
        raise UsageError(
            f"{file} is not a snapshot of this program ({type(error).__name__})",
            hint="The daemon writes it beside its status file as snapshot.json.",
        ) from None
    source = _open(config, path)
    try:
        after = await load_offline(source, await source.fetch(), config)
    finally:
        await source.close()
    return compared(before, after, config).result
