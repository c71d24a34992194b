"""Sources of revisions: a remote through a bare mirror, a local repository by commit, a folder on the disk."""

from __future__ import annotations

from pathlib import Path

from reconciler.model.errors import ConfigError
from reconciler.source.base import FileData, FileEntry, Revision, SecurityNotice, Snapshot, Source, refuse_empty
from reconciler.source.folder import FolderSource, LocalRepository, WorkTree, git_dir_of, read_folder
from reconciler.source.options import Caps, SourceOptions, VerifyMode, VerifyOptions, check_url, local_folder, normalize_path

_NOWHERE = Path("/nonexistent")  # HOME of Git, with nothing in it


def open_source(options: SourceOptions, state_dir: Path) -> Source:
    """Return the source that ``options`` describe, without reading from it. Raises `ConfigError` for invalid values."""
    check_url(options.url, options.allow_hosts)
    folder = local_folder(options.url)
    if folder is None:
        from reconciler.source.mirror import RemoteSource

        return RemoteSource(options, state_dir)
    git_dir = git_dir_of(folder)
    if git_dir is not None:
        return LocalRepository(git_dir, options, _NOWHERE, work_tree=None if git_dir == folder.resolve() else folder)
    if options.verify is not None:
        raise ConfigError(
            f"source.verify is set, and {folder} is not a Git repository: a folder has no signatures",
            hint="Use a repository, or remove source.verify.",
        )
    return FolderSource(folder, options, _NOWHERE, state_dir=state_dir)


def open_folder(path: Path, *, config_name: str = "reconciler.yaml") -> FolderSource:
    """Return the files of ``path`` on the disk, committed or not (``plan PATH``); `resolve` reads the repository around it."""
    return FolderSource(path, SourceOptions(url=str(path), config_name=config_name), _NOWHERE)


__all__ = [
    "Caps",
    "FileData",
    "FileEntry",
    "LocalRepository",
    "Revision",
    "SecurityNotice",
    "Snapshot",
    "Source",
    "SourceOptions",
    "VerifyMode",
    "VerifyOptions",
    "WorkTree",
    "check_url",
    "local_folder",
    "normalize_path",
    "open_folder",
    "open_source",
    "read_folder",
    "refuse_empty",
]
