"""Workflow commands (``::error file=…::``): problems and changes at the line that declares them.

A step of a workflow shows ten annotations of each level. What exceeds this is in the log, in a group, and is counted in the last one.
"""

from __future__ import annotations

from typing import NamedTuple

from reconciler.model.errors import Problem
from reconciler.model.plan import Disposition
from reconciler.model.printable import plain, plain_lines
from reconciler.model.resources import Location
from reconciler.planning.render.document import PlanDocument, PlanEntry
from reconciler.planning.render.lines import detail_lines
from reconciler.planning.render.values import bounded, shown

MOST_SHOWN = 10
"""Annotations of one level that a step shows (documentation of workflow commands)."""
_MESSAGE_LIMIT = 4_000
_WIDTH = 400


class _Annotation(NamedTuple):
    level: str
    location: Location
    title: str
    message: str

    @property
    def command(self) -> str:
        properties = {"file": self.location.file, "line": self.location.line, "col": self.location.column, "title": self.title}
        listed = ",".join(f"{name}={_property(plain(str(value)))}" for name, value in properties.items() if value)
        return f"::{self.level} {listed}::{_data(plain_lines(self.message))}"

    @property
    def log_line(self) -> str:
        """The same without a command, for the log."""
        place = f"{self.location}: " if self.location.file else ""
        return shown(f"- {self.level}: {place}{self.title}: {self.message.replace(chr(10), '; ')}", _MESSAGE_LIMIT)


def workflow_commands(document: PlanDocument) -> str:
    """Return one command per line: problems as errors or warnings, blocked changes as warnings, other changes as notices."""
    items = [*_problems(document.problems), *_problems(document.unread)]
    entries = sorted(document.entries, key=lambda entry: entry.level is not Disposition.BLOCKED)
    items += [_entry(entry) for entry in entries]
    digest = "" if document.empty else f"\nDigest: {document.sha256}" + ("" if document.approvable else " (it approves nothing)")
    last = _Annotation("notice", Location(""), "reconciler plan", f"{document.summary}{digest}")
    return _page(items, last)


def problem_commands(problems: tuple[Problem, ...]) -> str:
    """Return the problems alone, for ``validate``."""
    return _page(_problems(problems), None)


def _problems(problems: tuple[Problem, ...]) -> list[_Annotation]:
    """Return an annotation for each of ``problems``."""
    return [
        _Annotation(p.severity.value, p.location, p.code, bounded(p.message, _MESSAGE_LIMIT) + (f"\n{p.hint}" if p.hint else ""))
        for p in problems
    ]


def _entry(entry: PlanEntry) -> _Annotation:
    title = f"{entry.action.value} {entry.title}" + (f" ({entry.state})" if entry.state else "")
    lines = [entry.place, *entry.why, *(f"{line.mark} {line.text}".strip() for line in detail_lines(entry.details, _WIDTH))]
    message = bounded("\n".join(line for line in lines if line), _MESSAGE_LIMIT)
    return _Annotation("warning" if entry.level is Disposition.BLOCKED else "notice", entry.anchor, title, message)


def _page(items: list[_Annotation], last: _Annotation | None) -> str:
    shown_items: list[_Annotation] = []
    rest: list[_Annotation] = []
    room = {"error": MOST_SHOWN, "warning": MOST_SHOWN, "notice": MOST_SHOWN - (last is not None)}
    for item in items:
        room[item.level] -= 1
        (shown_items if room[item.level] >= 0 else rest).append(item)
    lines = [item.command for item in shown_items]
    if rest:
        lines += [f"::group::{len(rest)} more", *(item.log_line for item in rest), "::endgroup::"]
    if last is not None:
        count = f"\n{len(rest)} more are in the log of this step." if rest else ""
        lines.append(last._replace(message=last.message + count).command)
    return "\n".join(lines) + "\n" if lines else ""


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
