"""A plan for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model.plan import Action, Disposition
from reconciler.planning.render.document import PlanDocument, PlanEntry, PlanSection
from reconciler.planning.render.lines import DetailLine, detail_lines, heading
from reconciler.planning.render.values import shown, wrapped
from reconciler.planning.render.words import RESOURCES_TITLE, UNREAD_TITLE, short

NARROWEST = 40
MOST_ENTRIES = 2_000
"""Entries that are shown in full; the others are counted. The JSON document has all of them."""
MOST_NOTES = 100
"""Notes, and orphans, of one integration that are shown; the others are counted."""
_RESET, _BOLD, _DIM = "\x1b[0m", "\x1b[1m", "\x1b[2m"
_GREEN, _RED, _YELLOW, _MAGENTA = "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[35m"
_COLOURS = {Action.CREATE: _GREEN, Action.DELETE: _RED, Action.REPLACE: _MAGENTA, Action.ADOPT: _MAGENTA}
_MARKS = {"+": _GREEN, "-": _RED}
_INDENT = 8
_PARAGRAPH_LINES = 12


def text(document: PlanDocument, *, width: int = 100, colour: bool = False) -> str:
    """Return the plan as text, the revision first, the summary last, at most ``width`` columns."""
    return _Page(max(width, NARROWEST), colour).render(document)


class _Page:
    """The width and the colours of one rendering, and the entries that may still be shown."""

    def __init__(self, width: int, colour: bool) -> None:
        self.width = width
        self.colour = colour
        self.left = MOST_ENTRIES

    def paint(self, code: str, text: str) -> str:
        return f"{code}{text}{_RESET}" if self.colour and code and text else text

    def render(self, document: PlanDocument) -> str:
        lines = [f"Revision: {short(document.revision)}", ""] if document.revision else []
        if document.manifests:
            lines += [self.paint(_BOLD, RESOURCES_TITLE), *self._entries(document.manifests), ""]
        for section in document.sections:
            lines += [] if section.empty else [*self._section(section), ""]
        if document.unread:
            lines += [*self._unread(document), ""]
        lines += [self.paint(_BOLD, line) for line in wrapped(document.summary, self.width, 8)]
        if not document.empty:
            lines += self._digest(document)
        return "\n".join(lines) + "\n"

    def _digest(self, document: PlanDocument) -> list[str]:
        digest, note = f"Digest: {document.sha256}", "" if document.approvable else "(it approves nothing)"
        return [f"{digest} {note}".rstrip()] if not note or len(digest) + len(note) < self.width else [digest, note]

    def _section(self, section: PlanSection) -> Iterator[str]:
        yield self.paint(_BOLD, section.integration)
        if section.identity:
            yield from self._paragraph(section.identity, 2)
        for group in section.groups:
            yield f"  {group.title}"
            yield from self._entries(group.entries)
        for note in section.notes[:MOST_NOTES]:
            first, *rest = wrapped(note, self.width - 8, 4)
            yield f"  note: {first}"
            yield from (f"        {line}" for line in rest)
        if len(section.notes) > MOST_NOTES:
            yield f"  … and {len(section.notes) - MOST_NOTES} more notes"
        for orphan in section.orphans[:MOST_NOTES]:
            yield f"  orphan of ours: {shown(str(orphan.scope))} {shown(orphan.external_id)}"
        if len(section.orphans) > MOST_NOTES:
            yield f"  … and {len(section.orphans) - MOST_NOTES} more orphans; `reconciler orphans` lists them"
        if section.blocked is not None and section.blocked.sha256 is not None:
            yield f"  Blocked: {section.blocked.count} of {section.blocked.owned} owned objects. To allow exactly these:"
            yield f"    reconciler approve {section.blocked.sha256}"
        elif section.blocked is not None:
            yield f"  Blocked: {section.blocked.count} of {section.blocked.owned} owned objects."

    def _unread(self, document: PlanDocument) -> Iterator[str]:
        """Yield all problems, since they show how complete the plan is."""
        yield self.paint(_RED, UNREAD_TITLE)
        for problem in document.unread:
            place = f"{problem.location}: " if problem.location.file else ""
            yield from self._paragraph(shown(f"{place}{problem.code}: {problem.message}"), 2)
            if problem.hint:
                yield from self._paragraph(shown(problem.hint), 4)

    def _paragraph(self, text: str, indent: int) -> Iterator[str]:
        return (" " * indent + line for line in wrapped(text, self.width - indent, _PARAGRAPH_LINES))

    def _entries(self, entries: tuple[PlanEntry, ...]) -> Iterator[str]:
        for entry in entries[: self.left]:
            yield from self._entry(entry)
        if len(entries) > self.left:
            yield f"    … and {len(entries) - self.left} more changes; `-o json` has all of them"
        self.left = max(self.left - len(entries), 0)

    def _entry(self, entry: PlanEntry) -> Iterator[str]:
        code = _COLOURS.get(entry.action, _YELLOW) if entry.level is Disposition.EXECUTE else _DIM
        yield from self._heading(entry, code)
        for sentence in entry.why:
            yield from self._paragraph(sentence, _INDENT)
        loses = entry.action is Action.DELETE and bool(entry.details)
        if loses:
            yield " " * _INDENT + "what is lost:"
        for line in detail_lines(entry.details, self.width - _INDENT):
            yield self._line(line)

    def _heading(self, entry: PlanEntry, code: str) -> Iterator[str]:
        """One line, or more where it would be too long: what happens and why, then where."""
        what, place, state = heading(entry)
        where = f"  {entry.at}" if entry.at else ""
        head = " ".join(part for part in (what, place, state) if part)
        if len(head) + len(where) + 4 <= self.width:
            yield "    " + self.paint(code, head) + self.paint(_DIM, where)
            return
        if len(what) + len(state) + 5 <= self.width:
            what, state = f"{what} {state}".rstrip(), ""
        yield "    " + self.paint(code, what)
        for part in (state, f"{place}{where}".strip()):
            yield from (" " * _INDENT + self.paint(_DIM, line) for line in wrapped(part, self.width - _INDENT, 3) if line)

    def _line(self, line: DetailLine) -> str:
        mark = f"{line.mark} " if line.indent and line.mark in "+-" else ""
        return " " * (_INDENT + line.indent) + (
            self.paint(_MARKS.get(line.mark, ""), f"{mark}{line.text}") if mark else line.text
        )
