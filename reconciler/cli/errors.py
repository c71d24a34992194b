"""Errors as a user reads them: what, where, why, and the next step."""

from __future__ import annotations

import sys

from reconciler.cli.excerpts import show_problems
from reconciler.cli.output import say
from reconciler.model.errors import ConfigError, ManifestError, ReconcilerError, storage_error


def show_error(error: Exception) -> None:
    """Print the error, its place, its reason and the next step; never a traceback or a secret."""
    if isinstance(error, ManifestError):
        show_problems(error.problems, "stderr")
    for line in error_lines(error):
        say(line)


def error_lines(error: Exception) -> list[str]:
    """Return the error with its place, its code and its message; the next step follows as a line of its own."""
    if not isinstance(error, ReconcilerError):
        return [f"reconciler: RC9001: {type(error).__name__}: internal error. Set RECONCILER_DEBUG=1 for the traceback."]
    place = f"{error.location}: " if error.location is not None else ""
    lines = [f"reconciler: {place}{error.code}: {error.message}"]
    lines += [f"  {line}" for line in (error.details if isinstance(error, ConfigError) else ())]
    return [*lines, f"  {error.hint}"] if error.hint else lines


def typed(error: Exception) -> Exception:
    """Return the error of this program for an error of the event loop, the system or the database; any other error as it is."""
    cause = error.__cause__
    if isinstance(error, RuntimeError) and isinstance(cause, ReconcilerError | OSError):
        error = cause
    if isinstance(error, OSError) and error.filename is not None:
        return storage_error(error, error.filename2 or error.filename)
    if "sqlite3" in sys.modules and type(error).__module__.partition(".")[0] in {"sqlite3", "sqlalchemy"}:
        from reconciler.state.database import database_error

        return database_error(error) or error
    return error
