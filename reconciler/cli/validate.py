"""``validate``: check manifests without network, credentials and state."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from reconciler import __version__
from reconciler.cli.excerpts import show_problems
from reconciler.cli.options import ValidateOptions
from reconciler.cli.output import emit_json
from reconciler.cli.progress import waiting
from reconciler.cli.sink import document, json_document, out
from reconciler.cli.tables import counted
from reconciler.model.errors import ConfigError, Problem, Severity, UsageError
from reconciler.model.exit_codes import EXIT_INVALID, EXIT_OK
from reconciler.model.resources import Desired
from reconciler.source.base import SecurityNotice


def validate(options: ValidateOptions) -> int:
    """Check files or folders; exit 5 if there is an error."""
    with waiting("validating"):
        desired, files = load_paths([Path(path) for path in options.paths] or [Path()], allow=_allowed(options))
    _show(desired, files, options.output)
    return EXIT_OK if desired.complete else EXIT_INVALID


def _allowed(options: ValidateOptions) -> tuple[str, ...]:
    """Return ``network.allow`` of the configuration; without one, only the providers' own hosts are allowed."""
    from reconciler.cli.session import configuration

    try:
        return configuration(options).network.allow
    except ConfigError:
        if options.config:
            raise
        return ()


def load_paths(paths: list[Path], *, allow: tuple[str, ...] | None = None) -> tuple[Desired, int]:
    """Return what ``paths`` declare, and the number of files. Raises `UsageError` for a path that does not exist.

    ``allow``: hosts and addresses besides the providers' own hosts; None: hosts are not checked.
    """
    from reconciler.drivers.http.network import refusal_of_literals
    from reconciler.manifests import SourceFile, load

    files: dict[str, SourceFile] = {}
    unread: list[Problem] = []
    for path in paths:
        if path.is_dir():
            from reconciler.source.folder import look_into

            contents, notices = look_into(path, config_name="reconciler.yaml")
            for name, blob, data in contents:
                shown = str(path / name) if str(path) != "." else name
                files[shown] = SourceFile(shown, blob, data)
            unread += _unread(path, notices)
        elif path.is_file():
            import hashlib

            data = path.read_bytes()
            files[str(path)] = SourceFile(str(path), hashlib.sha256(data).hexdigest(), data)
        else:
            raise UsageError(f"{path} does not exist", hint="Name files or folders of manifests.")
    refused = refusal_of_literals(allow) if allow is not None else _nothing
    desired = load(files.values(), revision="working-folder", refused=refused)
    return dataclasses.replace(desired, problems=(*desired.problems, *unread)), len(files)


def _unread(folder: Path, notices: Iterable[SecurityNotice]) -> list[Problem]:
    """Return a warning for each notice about a path with the name of a manifest."""
    hiding = [notice for notice in notices if notice.hides_manifest]
    if not hiding:
        return []
    from reconciler.engine.revision import unread_problem  # imports the store, which is slow

    return [unread_problem(str(folder / notice.path), notice.reason, Severity.WARNING) for notice in hiding]


def _nothing(_url: str) -> str:
    return ""


def _show(desired: Desired, files: int, output: str) -> None:
    problems: tuple[Problem, ...] = desired.problems
    if output == "json":
        emit_json(
            {
                "valid": desired.complete,
                "files": files,
                "resources": [r.id.path for r in desired.resources],
                "problems": [_row(problem) for problem in problems],
            }
        )
    elif output == "sarif":
        from reconciler.planning import render

        json_document(render.problems_as_sarif(problems, version=__version__))
    elif output == "github":
        from reconciler.planning import render

        document(render.problem_commands(problems))
    else:
        show_problems(problems)
        errors = sum(1 for p in problems if p.is_error)
        out(f"{counted(len(desired.resources), 'valid resource')} in {counted(files, 'file')}, {counted(errors, 'error')}")


def _row(problem: Problem) -> dict[str, object]:
    place = problem.location
    return {
        "file": place.file,
        "line": place.line,
        "column": place.column,
        "pointer": problem.pointer,
        "code": problem.code,
        "severity": problem.severity.value,
        "message": problem.message,
        "hint": problem.hint,
        "resource": problem.resource.path if problem.resource is not None else None,
    }
