"""``credentials``: five answers for every credential, and a calendar of what stops when. From the status file; works without a daemon."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from reconciler.cli import listing
from reconciler.cli.ages import Clock
from reconciler.cli.listing import Listing, Style
from reconciler.cli.options import CredentialsOptions
from reconciler.cli.session import configuration
from reconciler.cli.sink import out
from reconciler.cli.status import LABELS, read
from reconciler.cli.tables import columns, name_of, painter, table
from reconciler.cli.widths import wrap
from reconciler.config.values import parse_duration
from reconciler.model.errors import ConfigError, UsageError
from reconciler.model.printable import plain
from reconciler.model.status_document import CredentialRow, StatusDocument
from reconciler.model.times import epoch_of

WIDTH = 80
"""Columns of the notes where no terminal limits them."""
_HEAD = ("CREDENTIAL", "VALID", "WHO", "GRANTED", "MISSING", "ENDS")
_DAY_S = 86_400.0


def credentials(options: CredentialsOptions) -> int:
    """Show every credential, and what stops until ``--until``."""
    try:
        until_s = parse_duration(options.until)
    except ConfigError as error:
        raise UsageError(f"--until {options.until}: {error.message}", hint="For example: --until 30d") from None
    file = Path(configuration(options).status.file)
    return listing.show(options, lambda: _list(read(file), until_s, options))


def _list(document: StatusDocument, until_s: float, options: CredentialsOptions) -> Listing:
    now = time.time()
    rows = sorted(document.credentials, key=lambda row: row.name)
    ends = [(end, row) for row in rows if (end := end_of(row)) is not None and end <= now + until_s]
    calendar = sorted(ends, key=lambda entry: entry[0])
    found = {
        "credentials": msgspec.to_builtins(rows),
        "calendar": [_entry(end, row, now) for end, row in calendar],
        "unknownEnds": [name_of(row.name) for row in rows if "expiresAt" in row.unknown],
    }

    def text(style: Style) -> None:
        table(_HEAD, [_cells(row, style) for row in rows], none="no credentials have been checked yet")
        if rows:
            _show_notes(rows, style)
            _show_calendar(calendar, options.until, style.clock)

    return Listing(found, [name_of(row.name) for row in rows], text)


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


def _cells(row: CredentialRow, style: Style) -> list[str]:
    end, given = end_of(row), answers(row)
    granted = given["granted"] if style.wide or not row.granted else str(len(row.granted))
    missing = given["missing"] if style.wide or not row.missing else str(len(row.missing))
    left = "unknown" if end is None else row.expires_at if style.clock.utc else _left(end, style.clock.now)
    return [name_of(row.name), validity(row), style.cut(given["identity"]), granted, missing, left]


def _left(end: float, now: float) -> str:
    days = int((end - now) // _DAY_S)
    return "over" if end <= now else "<1 day" if days < 1 else f"{days} day{'' if days == 1 else 's'}"


def _show_notes(rows: Iterable[CredentialRow], style: Style) -> None:
    """Show what the table has no room for: long names of owners, what is missing, and why an answer is unknown."""
    for row in rows:
        lines = []
        if style.cut(row.identity) != row.identity:
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
            _wrapped(line)


def _show_calendar(calendar: Iterable[tuple[float, CredentialRow]], until: str, clock: Clock) -> None:
    entries, now, paint = list(calendar), clock.now, painter()
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
        _wrapped("stops " + (", ".join(row.dependents) or "nothing else"))


def _wrapped(line: str) -> None:
    first, *more = wrap(plain(line), (columns() or WIDTH) - 4)
    out(f"  {first}")
    for part in more:
        out(f"    {part}")


def _entry(end: float, row: CredentialRow, now: float) -> dict[str, Any]:
    return {
        "at": row.expires_at,
        "days": int((end - now) // _DAY_S),
        "credential": name_of(row.name),
        "dependents": list(row.dependents),
    }


__all__ = ["answers", "credentials", "end_of", "validity"]
