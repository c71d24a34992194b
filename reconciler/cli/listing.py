"""What every verb that lists can do: ``-o text|wide|json|name``, ``--utc`` and ``--watch``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reconciler.cli.ages import Clock
from reconciler.cli.errors import error_lines, typed
from reconciler.cli.options import ListOptions
from reconciler.cli.output import emit_json, say
from reconciler.cli.sink import captured, clear_screen, out, reader_left, redraw, terminal_size
from reconciler.cli.widths import cut
from reconciler.model.exit_codes import EXIT_OK
from reconciler.model.printable import plain

LABEL_COLUMNS = 24
WATCH_S = 1.0
"""Pause between two looks of ``--watch``."""


@dataclass(frozen=True, slots=True)
class Style:
    """How a list is printed as text. ``wide``: with all columns, and nothing shortened."""

    clock: Clock
    wide: bool = False
    note: Callable[[str], None] = say
    """Prints a remark about the list: to stderr, or below the list of ``--watch``."""

    def cut(self, text: str) -> str:
        """Return a free text for a column in the middle of a table: shortened, unless the list is wide."""
        return text if self.wide else cut(plain(text), LABEL_COLUMNS)

    def revision(self, revision: str) -> str:
        """Return a revision as it is shown: short, unless the list is wide."""
        from reconciler.cli.tables import short_revision

        return revision if self.wide else short_revision(revision)

    def digest(self, digest: str) -> str:
        """Return a digest or a commit as it is shown: its first 8 characters, unless the list is wide."""
        prefix, colon, rest = digest.rpartition(":")
        return digest if self.wide else f"{prefix}{colon}{rest[:8]}"


@dataclass(frozen=True, slots=True)
class Listing:
    """One list. ``names``: what other verbs take as their argument. ``key``: changes when ``--watch`` should print the list again."""

    document: Mapping[str, object]
    names: Sequence[str]
    text: Callable[[Style], None]
    code: int = EXIT_OK
    key: object = None


def show(options: ListOptions, make: Callable[[], Listing], *, every_s: float = WATCH_S) -> int:
    """Print the list that ``make`` returns; with ``--watch``, again on every change until Ctrl-C. Returns its exit code."""
    if options.watch:
        return _watch(options, make, every_s)
    listing = make()
    _print(listing, options)
    return listing.code


def _print(listing: Listing, options: ListOptions, note: Callable[[str], None] = say) -> None:
    if options.output == "json":
        emit_json(listing.document)
    elif options.output == "name":
        for name in listing.names:
            out(name)
    else:
        listing.text(Style(Clock(time.time(), utc=options.utc), wide=options.output == "wide", note=note))


def _watch(options: ListOptions, make: Callable[[], Listing], every_s: float) -> int:
    from reconciler.model.errors import ReconcilerError

    on_screen = options.output in {"text", "wide"} and terminal_size() is not None
    listing, errors = make(), list[str]()
    shown: object = None
    if on_screen:
        clear_screen()
    try:
        while True:
            key = (listing.document if listing.key is None else listing.key, errors)
            if on_screen:
                _draw(listing, options, errors)
            elif key != shown:
                _print_again(listing, options, errors)
            shown = key
            if _reader_leaves_within(every_s):
                return EXIT_OK
            try:
                listing, errors = make(), []
            except (ReconcilerError, OSError) as error:  # the daemon restarts: the last list stays, with the reason below it
                errors = error_lines(typed(error))
    except KeyboardInterrupt:
        if on_screen:
            out("")
        raise


def _print_again(listing: Listing, options: ListOptions, errors: Sequence[str]) -> None:
    for line in errors:
        say(line)
    if not errors:
        _print(listing, options)


def _reader_leaves_within(seconds: float) -> bool:
    """Wait. Returns True at once when the reader of stdout closes it."""
    end = time.monotonic() + seconds
    while not reader_left():
        if time.monotonic() >= end:
            return False
        time.sleep(min(0.2, seconds))
    return True


def _draw(listing: Listing, options: ListOptions, errors: Sequence[str]) -> None:
    """Draw the list over the one before it. The last line counts the rows that the terminal has no room for."""
    with captured() as parts:
        _print(listing, options, note=out)
        for line in errors:
            out(line)
    lines = "".join(parts).rstrip("\n").split("\n")
    size = terminal_size()
    room = max((size.lines if size is not None else 24) - 1, 2)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"… {len(lines) - room + 1} more lines: enlarge the terminal, or select fewer rows"]
    redraw(lines)
