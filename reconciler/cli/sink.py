"""The output of every verb: no other module of this package writes to stdout or stderr.

Any line can contain untrusted text (titles, names, messages of providers), so a line is escaped when it is written. Colours are
parts of a line (`Ink`), never characters of a text. A closed pipe (``| head``, ``>&-``) or an encoding without a character
(latin-1) changes neither what a verb does nor its exit code.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

from reconciler.cli.widths import cut
from reconciler.model.printable import plain, plain_json

_ESCAPE = re.compile("\x1b(?:\\[([0-9;]{0,64})m)?")
_COLOURS = frozenset({0, 1, 2, 3, 4, 22, 23, 24, *range(30, 50), *range(90, 98), *range(100, 108)})
"""Parameters of SGR that a log may set: colours and weight, nothing that hides or blinks."""
_LONG_COLOURS = {"5": 2, "2": 4}
"""How many parameters follow 38 and 48, by the first of them."""
_RESET = "\x1b[0m"
_ASCII = str.maketrans(
    {"…": "...", "→": "->", "±": "+-", "—": "-", "–": "-", "·": "-", "×": "x", "✓": "ok", "✗": "no", "█": "#", "░": "."}
)
"""How the signs of this program are written where the locale has no character for them."""
_LINE_END = re.compile("\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Ink:
    """A coloured part of a line. ``code``: of an SGR sequence; an empty one means no colour."""

    code: str
    text: str


class _Output:
    """A standard stream. ``gone``: its reader has closed it. ``error``: why it cannot be written, or None.

    ``captured``: collects what is written, instead of the stream, if it is not None.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.gone = False
        self.error: OSError | None = None
        self.captured: list[str] | None = None

    @property
    def stream(self) -> TextIO:
        stream: TextIO = getattr(sys, self.name)
        return stream

    def write(self, text: str) -> None:
        if self.captured is not None:
            self.captured.append(text)
            return
        if self.gone:
            return
        encoding = self.stream.encoding or "utf-8"
        self._guarded(lambda: self.stream.write(_encodable(text, encoding)))

    def write_utf8(self, text: str) -> None:
        """Write text for programs: UTF-8 in every locale, as JSON and YAML require."""
        if self.captured is not None:
            self.captured.append(text)
            return
        buffer = getattr(self.stream, "buffer", None)
        if self.gone:
            return
        if buffer is None:
            self._guarded(lambda: self.stream.write(text))
            return
        data = text.encode("utf-8", "backslashreplace")
        self.flush()
        self._guarded(lambda: buffer.write(data))

    def flush(self) -> None:
        if not self.gone:
            self._guarded(lambda: self.stream.flush())

    def _guarded(self, action: Callable[[], object]) -> None:
        try:
            action()
        except BrokenPipeError:
            self._drop(None)
        except OSError as error:
            self._drop(error)
        except ValueError:  # the stream is closed
            self.gone = True

    def _drop(self, error: OSError | None) -> None:
        """Write nothing from now on. Buffered text goes to the null device, so that the exit does not fail either."""
        self.gone, self.error = True, error
        with contextlib.suppress(OSError, ValueError, AttributeError):
            void = os.open(os.devnull, os.O_WRONLY)
            os.dup2(void, self.stream.fileno())
            os.close(void)


def _encodable(text: str, encoding: str) -> str:
    """Return ``text`` with only characters of ``encoding``: our own signs in ASCII, all others escaped."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    return text


_OUT, _ERR = _Output("stdout"), _Output("stderr")


def prepare() -> None:
    """Make the standard streams usable.

    The next opened file would get the number of a closed descriptor, and our output would land in that file.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for output in (_OUT, _ERR):
        output.gone, output.error = False, None


def finish() -> OSError | None:
    """Write buffered text. Returns the error of stdout, or None; a closed pipe is not an error."""
    _OUT.flush()
    _ERR.flush()
    return _OUT.error


def flush() -> None:
    """Write buffered text to stdout now."""
    _OUT.flush()


def reader_left() -> bool:
    """Whether the reader of stdout has closed it: a verb that follows a log or a file ends then."""
    _OUT.flush()
    if not _OUT.gone:
        with contextlib.suppress(OSError, ValueError):
            poll = select.poll()
            poll.register(_OUT.stream.fileno(), 0)
            _OUT.gone = any(events & select.POLLERR for _, events in poll.poll(0))
    return _OUT.gone


@contextlib.contextmanager
def captured() -> Iterator[list[str]]:
    """Collect what is written to stdout, in the form that a terminal gets, in the list that is yielded."""
    before, _OUT.captured = _OUT.captured, []
    try:
        yield _OUT.captured
    finally:
        _OUT.captured = before


def out(*parts: str | Ink, end: str = "\n") -> None:
    """Write one line to stdout."""
    _OUT.write(_line(parts) + end)


def err(*parts: str | Ink, end: str = "\n") -> None:
    """Write one line to stderr."""
    _ERR.write(_line(parts) + end)
    _ERR.flush()


def block(text: str) -> None:
    """Write a trusted text of several lines to stdout."""
    for line in text.removesuffix("\n").split("\n"):
        out(line)


def coloured(text: str) -> None:
    """Write lines to stdout that may contain colours (SGR): logs, and plans, which escape the texts that they quote."""
    for line in _LINE_END.split(text.removesuffix("\n")):
        _OUT.write(_neutral(_keep_colours(line)) + "\n")


def document(text: str) -> None:
    """Write a document for programs to stdout: UTF-8 in every locale, without escaping."""
    _OUT.write_utf8(text)


def json_document(text: str) -> None:
    """Write a JSON text to stdout."""
    _OUT.write_utf8(plain_json(text).replace("##[", "#\\u0023["))


def terminal_size(name: str = "stdout") -> os.terminal_size | None:
    """Return the size of the terminal on ``name`` (stdout or stderr); None for a file or a pipe."""
    stream = (_OUT if name == "stdout" else _ERR).stream
    try:
        if not stream.isatty():
            return None
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return None
    return os.terminal_size((size.columns or 80, size.lines or 24))


def clear_screen() -> None:
    """Empty the terminal."""
    _OUT.write("\x1b[2J\x1b[H")


def redraw(lines: Sequence[str]) -> None:
    """Replace what the terminal shows by ``lines`` (one or more), which `captured` has collected. A line that is too wide is cut off."""
    *head, last = lines
    # Erased before it is written: behind the last column, that would erase the last character.
    body = "".join(f"\x1b[K{line}\n" for line in head) + f"\x1b[J{last}"
    _OUT.write(f"\x1b[?7l\x1b[H{body}\x1b[?7h")
    _OUT.flush()


def live(text: str, *, columns: int) -> None:
    """Replace the last line of the terminal on stderr by ``text``, without a line end; an empty text removes the line."""
    _ERR.write("\r\x1b[K" + cut(plain(text), columns - 1))
    _ERR.flush()


def _line(parts: tuple[str | Ink, ...]) -> str:
    text = "".join(
        f"\x1b[{part.code}m{plain(part.text)}{_RESET}" if isinstance(part, Ink) and part.code else plain(_text(part))
        for part in parts
    )
    return _neutral(text.rstrip())


def _text(part: str | Ink) -> str:
    return part.text if isinstance(part, Ink) else part


def _keep_colours(line: str) -> str:
    """Escape everything but tabs and colours; a colour ends with its line."""
    parts: list[str] = []
    at = 0
    for match in _ESCAPE.finditer(line):
        colour = match.group(1) is not None and _is_colour(match.group(1).split(";"))
        parts.append(_but_tabs(line[at : match.start()]) + (match.group() if colour else plain(match.group())))
        at = match.end()
    parts.append(_but_tabs(line[at:]))
    text = "".join(parts)
    return text + _RESET if "\x1b" in text and not text.endswith(_RESET) else text


def _is_colour(parameters: list[str]) -> bool:
    at = 0
    while at < len(parameters):
        if parameters[at] and int(parameters[at]) not in _COLOURS:
            return False
        long = parameters[at] in {"38", "48"}
        at += 1 + (_LONG_COLOURS.get(parameters[at + 1], 0) if long and at + 1 < len(parameters) else 0)
    return True


def _but_tabs(text: str) -> str:
    return "\t".join(plain(part) for part in text.split("\t"))


def _neutral(line: str) -> str:
    """Neutralise workflow commands: GitHub's runner executes them from any line. Only `document` may write them."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return line
    bare = line.lstrip()
    if bare.startswith("::"):
        line = line[: len(line) - len(bare)] + "\\x3a" + bare[1:]
    return line.replace("##[", "#\\x23[")
