"""``credentials``: five answers for every credential, and a calendar of what stops when. From the status file; works without a daemon."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from reconciler.cli.options import CredentialsOptions
from reconciler.cli.output import emit_json
from reconciler.cli.session import configuration
from reconciler.cli.sink import Ink, out
from reconciler.cli.status import LABELS, read
from reconciler.cli.tables import name_of, painter
from reconciler.config.values import parse_duration
from reconciler.model.exit_codes import EXIT_OK
from reconciler.model.printable import plain
from reconciler.model.status_document import CredentialRow
from reconciler.model.times import epoch_of

WIDTH = 80
_NAME, _WHO = 22, 19
_DAY_S = 86_400.0
_COLOURS = {"yes": "32", "no": "31", "unknown": "33"}
Paint = Callable[[str, str], Ink]


def credentials(options: CredentialsOptions) -> int:
    """Show every credential, and what stops until ``--until``."""
    until_s = parse_duration(options.until)
    document, now = read(Path(configuration(options).status.file)), time.time()
    rows = sorted(document.credentials, key=lambda row: row.name)
    ends = [(end, row) for row in rows if (end := end_of(row)) is not None and end <= now + until_s]
    calendar = sorted(ends, key=lambda entry: entry[0])
    if options.output == "json":
        emit_json(
            {
                "credentials": msgspec.to_builtins(rows),
                "calendar": [_entry(end, row, now) for end, row in calendar],
                "unknownEnds": [name_of(row.name) for row in rows if "expiresAt" in row.unknown],
            }
        )
        return EXIT_OK
    if not rows:
        out("no credentials have been checked yet")
        return EXIT_OK
    paint = painter()
    out(f"{'CREDENTIAL':{_NAME}}  {'VALID':7}  {'WHO':{_WHO}}  {'GRANTED':7}  {'MISSING':7}  ENDS")
    for row in rows:
        _show(row, now, paint)
    _show_notes(rows)
    _show_calendar(calendar, options.until, now, paint)
    return EXIT_OK


def end_of(row: CredentialRow) -> float | None:
    """Return when the credential ends (epoch seconds); None if that is not known."""
    try:
        return epoch_of(row.expires_at) if row.expires_at else None
    except ValueError:
        return None


def validity(row: CredentialRow) -> str:
    """Return yes, no or unknown."""
    return "unknown" if row.valid is None else "yes" if row.valid else "no"


def answers(row: CredentialRow) -> dict[str, str]:
    """Return the other four answers by question: a value, or ``unknown``; never empty."""
    shown = {
        "identity": row.identity,
        "granted": ", ".join(row.granted),
        "missing": ", ".join(row.missing) or ("" if "missing" in row.unknown else "none"),
        "expiresAt": row.expires_at,
    }
    return {question: text or "unknown" for question, text in shown.items()}


def _show(row: CredentialRow, now: float, paint: Paint) -> None:
    end = end_of(row)
    valid, given = validity(row), answers(row)
    granted = str(len(row.granted)) if row.granted else "unknown"
    missing = str(len(row.missing)) if row.missing else given["missing"]
    left = "unknown" if end is None else _left(end, now)
    red, yellow = "31", "33"
    out(
        f"{_cut(name_of(row.name).removeprefix('Integration/'), _NAME):{_NAME}}  ",
        paint(_COLOURS[valid], f"{valid:7}"),
        f"  {_cut(given['identity'], _WHO):{_WHO}}  ",
        paint("" if row.granted else yellow, f"{granted:7}"),
        "  ",
        paint(red if row.missing else yellow if missing == "unknown" else "", f"{missing:7}"),
        "  ",
        paint(yellow if end is None else red if end - now < _DAY_S else "", left),
    )


def _left(end: float, now: float) -> str:
    days = int((end - now) // _DAY_S)
    return "over" if end <= now else "<1 day" if days < 1 else f"{days} day{'' if days == 1 else 's'}"


def _show_notes(rows: Iterable[CredentialRow]) -> None:
    """Show what the table has no room for: long names of owners, what is missing, and why an answer is unknown."""
    for row in rows:
        lines = []
        if len(plain(row.identity)) > _WHO:
            lines.append(f"who: {row.identity}")
        if row.missing:
            lines.append(f"missing: {', '.join(row.missing)}")
        if row.surplus:
            lines.append(f"not needed: {', '.join(row.surplus)}")
        if row.message:
            lines.append(row.message)
        reasons: dict[str, list[str]] = {}
        for question, reason in row.unknown.items():
            if reason != row.message:
                reasons.setdefault(reason, []).append(LABELS.get(question, question))
        lines += [f"{', '.join(labels)}: {reason}" for reason, labels in reasons.items()]
        if lines:
            out("")
            out(name_of(row.name))
        for line in lines:
            _wrapped(plain(line))


def _show_calendar(calendar: Iterable[tuple[float, CredentialRow]], until: str, now: float, paint: Paint) -> None:
    entries = list(calendar)
    out("")
    if not entries:
        out(f"nothing that has a known end stops within {until}")
        return
    out(f"what stops within {until}:")
    for end, row in entries:
        out(
            paint("31" if end - now < 7 * _DAY_S else "33", f"{row.expires_at[:10]}  {_left(end, now):8}"),
            f"  {name_of(row.name)}",
        )
        _wrapped("stops " + (", ".join(map(plain, row.dependents)) or "nothing else"))


def _wrapped(line: str) -> None:
    for part in textwrap.wrap(line, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False):
        out(part)


def _cut(text: str, width: int) -> str:
    text = plain(text)
    return text if len(text) <= width else text[: width - 1] + "…"


def _entry(end: float, row: CredentialRow, now: float) -> dict[str, Any]:
    return {
        "at": row.expires_at,
        "days": int((end - now) // _DAY_S),
        "credential": name_of(row.name),
        "dependents": list(row.dependents),
    }


__all__ = ["answers", "credentials", "end_of", "validity"]
