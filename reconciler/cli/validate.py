"""``validate``: checks manifests without a network, a credential or a state."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reconciler import __version__
from reconciler.cli.output import emit_json, problem_lines
from reconciler.cli.sink import document, json_document, out
from reconciler.model.errors import ConfigError, Problem, Severity, UsageError
from reconciler.model.exit_codes import EXIT_INVALID, EXIT_OK
from reconciler.model.resources import Desired
from reconciler.source.base import SecurityNotice


def validate(options: argparse.Namespace) -> int:
    """Check files or folders; exit 5 when anything is wrong."""
    desired, files = load_paths([Path(path) for path in options.paths] or [Path()], allow=_allowed(options))
    _show(desired, files, options.output)
    return EXIT_OK if desired.complete else EXIT_INVALID


def _allowed(options: argparse.Namespace) -> tuple[str, ...]:
    """Return ``network.allow`` of the configuration; without one, nothing is allowed beside the providers' own hosts."""
    from reconciler.cli.session import configuration

    try:
        return configuration(options).network.allow
    except ConfigError:
        if getattr(options, "config", None):
            raise
        return ()


def load_paths(paths: list[Path], *, allow: tuple[str, ...] | None = None) -> tuple[Desired, int]:
    """Return what ``paths`` declare, and how many files were read; raises `UsageError` for one that is not there.

    ``allow``: what may be called besides the providers' own hosts; None: not checked.
    """
    from reconciler.drivers.http.network import refusal_of_literals
    from reconciler.manifests import SourceFile, load

    files: dict[str, SourceFile] = {}
    unread: list[Problem] = []
    for path in paths:
        if path.is_dir():
            from reconciler.source.folder import look_into

            found, notices = look_into(path, config_name="reconciler.yaml")
            for name, blob, data in found:
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
    """Return a warning for each notice about something with a manifest's name."""
    hiding = [notice for notice in notices if notice.hides_manifest]
    if not hiding:
        return []
    from reconciler.engine.revision import unread_problem  # brings the store with it, which nothing else here needs

    return [unread_problem(str(folder / one.path), one.reason, Severity.WARNING) for one in hiding]


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

        json_document(render.render_sarif(problems, version=__version__) + "\n")
    elif output == "github":
        from reconciler.planning import render

        document(render.render_annotations(None, problems) + "\n")
    else:
        for problem in problems:
            for line in problem_lines(problem):
                out(line)
        errors = sum(1 for p in problems if p.is_error)
        out(f"{len(desired.resources)} valid resources in {files} files, {errors} error{'' if errors == 1 else 's'}")


def _row(problem: Problem) -> dict[str, Any]:
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
