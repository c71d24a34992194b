"""A plan as a comment in Markdown (GFM), with a hidden marker and a bounded size.

Whatever a manifest, an event or a provider says is in a fence, a code span, or (in a summary, which is HTML) in ``<code>`` with
entities. So it makes no link, image or mention, and closes neither a fold nor a fence.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

from reconciler.model.errors import Problem
from reconciler.model.plan import Action, Disposition
from reconciler.planning.render.document import PlanDocument, PlanEntry, PlanSection
from reconciler.planning.render.lines import detail_lines
from reconciler.planning.render.values import bounded, shown
from reconciler.planning.render.words import RESOURCES_TITLE, SYMBOLS, UNREAD_TITLE

MARKER = "<!-- reconciler-plan -->"
LIMIT = 65_000
"""Bytes of a comment. A code host refuses a body of more than 65,536 characters; bytes are never fewer than characters."""
_BUDGETS = (12_000, 4_000, 1_500, 600, 200, 0)
"""Bytes of the details of one entry: the largest budget with which everything fits is taken."""
_OPEN_LINES = 8
"""Details of up to so many lines are not folded, if the plan has few entries."""
_OPEN_ENTRIES = 12
_WIDTH = 300
_TITLE_LIMIT = 600
_MOST_PROBLEMS = 100
_FIRST_PROBLEMS = 10
"""Problems that are kept as long as blocked changes are."""


@dataclass(frozen=True, slots=True)
class _Block:
    """A part of the comment. Titles and notes have no ``lines``; ``rank`` 0 is kept longest."""

    line: str
    """The visible line, as Markdown."""
    summary: str = ""
    """The same inside of ``<summary>``, as HTML."""
    lines: tuple[str, ...] = ()
    rank: int = 1
    counted: bool = True
    """Whether it is an entry of the plan: what is left out is counted, but not titles."""


def markdown(document: PlanDocument, *, limit: int = LIMIT, marker: str = MARKER, details_url: str = "") -> str:
    """Return the comment in at most ``limit`` bytes (at least 4,000), the revision first, the summary and the digest last.

    Details are folded if there are many, then shortened, then left out, then entries: each cut is counted. ``details_url`` is
    where the whole plan is, and the only link.
    """
    blocks = list(_blocks(document))
    head = [marker, "### Reconciler plan", ""] if marker else ["### Reconciler plan", ""]
    if document.revision:
        head += [f"Revision {code_span(bounded(document.revision, _TITLE_LIMIT))}", ""]
    fixed, more = "\n".join(head), _whole(details_url)
    tail = _tail(document)
    room = max(limit, 4_000) - len((fixed + tail + more).encode()) - 300
    folded = sum(block.counted for block in blocks) > _OPEN_ENTRIES
    body, cut = _fit(blocks, room, folded)
    notice = f"\n_{cut}._ {more}\n" if cut else f"\n{more}\n" if details_url else ""
    return re.sub(r"\n{3,}", "\n\n", fixed + "\n" + body + notice + tail)  # no line in a fence is empty


def _whole(details_url: str) -> str:
    if not details_url:
        return "`reconciler plan` shows all of them."
    target = quote(details_url, safe="/:?=&%#~+,;@!$'*-._")
    return f"[The whole plan]({target})"


def _tail(document: PlanDocument) -> str:
    text = f"\n**{document.summary}**\n"
    if document.empty:
        return text
    return text + f"\nDigest {code_span(document.sha256)}" + ("" if document.approvable else " (it approves nothing)") + "\n"


def _fit(blocks: list[_Block], room: int, folded: bool) -> tuple[str, str]:
    """Return the body, and what was cut in words."""
    heads = [_size(_rendered(block, (), folded)) for block in blocks]
    for budget in _BUDGETS:
        if sum(heads) > room and budget:
            continue
        parts = [_within(block.lines, budget) for block in blocks]
        texts = [_rendered(block, lines, folded) for block, lines in zip(blocks, parts, strict=True)]
        if sum(map(_size, texts)) <= room:
            short = sum(lines != block.lines for block, lines in zip(blocks, parts, strict=True))
            return "".join(texts), f"The details of {_number(short, 'change')} are shortened to fit here" if short else ""
    return _dropped(blocks, heads, room, folded)


def _dropped(blocks: list[_Block], heads: list[int], room: int, folded: bool) -> tuple[str, str]:
    """Return the most important heads that fit: blocked changes before others, titles with them."""
    kept: set[int] = set()
    for index in sorted(range(len(blocks)), key=lambda index: (blocks[index].rank, index)):
        if heads[index] <= room:
            room -= heads[index]
            kept.add(index)
        elif blocks[index].rank:
            break
    left = sum(block.counted for index, block in enumerate(blocks) if index not in kept)
    text = "".join(_rendered(block, (), folded) for index, block in enumerate(blocks) if index in kept)
    return text, f"{left} more entries do not fit here, and no details"


def _size(text: str) -> int:
    return len(text.encode())


def _within(lines: tuple[str, ...], budget: int) -> tuple[str, ...]:
    """Return the first lines of at most ``budget`` bytes, with the number of the others."""
    if not budget:
        return ()
    used = 0
    for index, line in enumerate(lines):
        used += _size(line) + 1
        if used > budget:
            return (*lines[:index], f"  … and {_number(len(lines) - index, 'more line')}")
    return lines


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _rendered(block: _Block, lines: tuple[str, ...], folded: bool) -> str:
    if not lines:
        return block.line + "\n"
    fence = _fence(lines)
    body = "\n".join((f"{fence}diff", *lines, fence))
    if folded or len(lines) > _OPEN_LINES:
        return f"\n<details><summary>{block.summary}</summary>\n\n{body}\n\n</details>\n\n"
    return f"{block.line}\n{body}\n\n"


def _blocks(document: PlanDocument) -> Iterator[_Block]:
    yield from _problems(document.problems)
    if document.unread:
        yield _plain(f"\n**{UNREAD_TITLE}**\n")
        yield from _problems(document.unread)
    if document.manifests:
        yield _plain(f"\n#### {RESOURCES_TITLE}\n")
        yield from map(_entry, document.manifests)
    for section in document.sections:
        yield from () if section.empty else _section(section)


def _section(section: PlanSection) -> Iterator[_Block]:
    identity = f"\n{code_span(bounded(section.identity, _TITLE_LIMIT))}\n" if section.identity else ""
    yield _plain(f"\n#### {code_span(section.integration)}\n{identity}")
    for group in section.groups:
        yield _plain(f"\n**{group.title}**\n")
        yield from map(_entry, group.entries)
    yield from (_plain(f"- note: {code_span(bounded(note, _TITLE_LIMIT))}", rank=2, counted=True) for note in section.notes)
    for orphan in section.orphans:
        yield _plain(f"- orphan of ours: {code_span(shown(f'{orphan.scope} {orphan.external_id}'))}", rank=2, counted=True)
    blocked = section.blocked
    if blocked is not None and blocked.sha256 is not None:
        command = f"```sh\nreconciler approve {blocked.sha256}\n```\n"
        yield _plain(f"\n**{blocked.count} blocked.** To allow exactly these:\n\n{command}")
    elif blocked is not None:
        yield _plain(f"\n**{blocked.count} blocked.**\n")


def _plain(text: str, *, rank: int = 0, counted: bool = False) -> _Block:
    return _Block(text, rank=rank, counted=counted)


def _problems(problems: tuple[Problem, ...]) -> Iterator[_Block]:
    for number, problem in enumerate(problems[:_MOST_PROBLEMS]):
        place = f" at {code_span(shown(str(problem.location), _TITLE_LIMIT))}" if problem.location.file else ""
        message = code_span(shown(problem.message, _TITLE_LIMIT))
        text = f"- **{problem.severity.value} {problem.code}**{place}: {message}"
        hint = f" {code_span(shown(problem.hint, _TITLE_LIMIT))}" if problem.hint else ""
        yield _plain(text + hint, rank=0 if number < _FIRST_PROBLEMS else 1, counted=True)
    if len(problems) > _MOST_PROBLEMS:
        yield _plain(f"- … and {_number(len(problems) - _MOST_PROBLEMS, 'more problem')}")


def _entry(entry: PlanEntry) -> _Block:
    lines = [f"  {bounded(sentence, 2_000)}" for sentence in entry.why]
    if entry.action is Action.DELETE and entry.details:
        lines.append("  what is lost:")
    for line in detail_lines(entry.details, _WIDTH, sides=True):
        lines.append(f"{line.mark if line.mark in '+-' else ' '} {' ' * line.indent}{line.text}")
    rank = 0 if entry.level is Disposition.BLOCKED else 1
    return _Block(f"- {_head(entry, code_span, _bold)}", _head(entry, _element, _strong), tuple(lines), rank)


def _head(entry: PlanEntry, code: Callable[[str], str], strong: Callable[[str], str]) -> str:
    parts = [code(SYMBOLS[entry.action]), entry.action.value, code(bounded(entry.title, _TITLE_LIMIT))]
    parts += [code(bounded(entry.place, _TITLE_LIMIT))] if entry.place else []
    parts += [strong(entry.state)] if entry.state else []
    parts += [f"at {code(bounded(entry.at, _TITLE_LIMIT))}"] if entry.at else []
    return " ".join(parts)


def _bold(text: str) -> str:
    return f"**{code_span(text)}**"


def _fence(lines: Iterable[str]) -> str:
    """A fence longer than any run of backticks inside, so that no value can leave it."""
    return "`" * max(3, *(len(run) + 1 for line in lines for run in re.findall(r"`+", line)), 3)


def code_span(text: str) -> str:
    text = text or "(empty)"  # a code span cannot be empty: its ticks would start one that ends elsewhere
    ticks = "`" * (max((len(run) for run in re.findall(r"`+", text)), default=0) + 1)
    pad = " " if text.startswith(("`", " ")) or text.endswith(("`", " ")) else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def _strong(text: str) -> str:
    return f"<b>{_element(text)}</b>"


def _element(text: str) -> str:
    return f"<code>{html.escape(text) or '(empty)'}</code>"
