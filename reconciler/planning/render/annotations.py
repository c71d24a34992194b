"""Workflow commands (``::error file=…::``): problems and changes at the line that declares them."""

from __future__ import annotations

from reconciler.model.errors import Problem
from reconciler.model.plan import Change, Disposition, PlanSet, ResourceChange
from reconciler.model.printable import plain, plain_lines
from reconciler.model.resources import Location
from reconciler.planning.render.words import details, resource_details, state_text, summary


def render_annotations(planset: PlanSet | None, problems: tuple[Problem, ...] = ()) -> str:
    """Return one command per line: problems as errors or warnings, blocked changes as warnings, other changes as notices."""
    lines = [_problem(problem) for problem in problems]
    if planset is not None:
        lines += [_resource(change) for change in planset.resources]
        lines += [_problem(problem) for problem in planset.unread]
        lines += [_change(change) for change in planset.changes]
        lines.append(_command("notice", Location(""), "reconciler plan", summary(planset)))
    return "\n".join(lines) + "\n" if lines else ""


def _problem(problem: Problem) -> str:
    text = problem.message + (f"\n{problem.hint}" if problem.hint else "")
    return _command(problem.severity.value, problem.location, problem.code, text)


def _change(change: Change) -> str:
    state = state_text(change)
    title = f"{change.action.value} {change.resource}" + (f" ({state})" if state else "")
    text = "\n".join([str(change.scope), *([change.message] if change.message else []), *details(change)])
    return _command("warning" if change.disposition is Disposition.BLOCKED else "notice", change.location, title, text)


def _resource(change: ResourceChange) -> str:
    return _command("notice", change.location, f"{change.action.value} {change.resource}", "\n".join(resource_details(change)))


def _command(level: str, location: Location, title: str, message: str) -> str:
    properties = {"file": location.file, "line": location.line, "col": location.column, "title": title}
    listed = ",".join(f"{name}={_property(plain(str(value)))}" for name, value in properties.items() if value)
    return f"::{level} {listed}::{_data(plain_lines(message))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
