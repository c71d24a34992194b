"""CEL expressions (https://github.com/google/cel-spec), compiled when a manifest is validated. Only this module uses the library.

CEL has no ``$``: the payload is also called ``event``, and ``$`` is replaced by token, not inside strings. CEL has no loops and no
recursion, so evaluation ends. ``headers`` are in lower case on both sides.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Protocol

from reconciler.manifests.patterns import PatternTooLarge, without_repetitions
from reconciler.model.json import Json
from reconciler.model.values import text_of

MAX_LENGTH = 4_096
MAX_CACHED = 256 << 10
"""Total length of the expressions that are kept compiled, in characters."""
_TOKEN = re.compile(
    r"""(?P<text>[rRbB]{0,2}(?:\"{3}[\s\S]*?\"{3}|'{3}[\s\S]*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))|(?P<comment>//[^\n]*)|(?P<dollar>\$)"""
    r"""|(?P<plain>(?:[ \t\r\n\f.,:;?!()\[\]{}<>=&|+\-*%]++|[A-Za-z0-9_]++(?!["']))++|[A-Za-z0-9_]++)|(?P<other>[\s\S])"""
)
_HEADER_KEY = re.compile(r"""(headers\s*\[\s*)(["'])([^"'\\]*)(\2)""")
_MATCHES = re.compile(r"""\.matches\(\s*([rR]?(?:"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))\s*\)""")
_CHARACTERS = frozenset("/`'\"\\")
"""Characters that may be outside of a string besides those that `_TOKEN` matches as plain, which are read in runs for speed."""
_PLACE = re.compile(r"<input>:(\d+):(\d+): ([^\n]*)")


class _Type(Protocol):
    def name(self) -> str: ...


class _Value(Protocol):
    def type(self) -> _Type: ...

    def value(self) -> object: ...

    def plain_value(self) -> object:
        """Return the value with lists and maps as Python's own, which `value` leaves in a form of the library."""


class _Program(Protocol):
    def eval(self, *, data: Mapping[str, object]) -> _Value: ...

    def return_type(self) -> _Type: ...


class _Environment(Protocol):
    def compile(self, expression: str) -> _Program: ...


class ExpressionError(Exception):
    """An expression that does not compile or cannot be evaluated; ``column`` counts from 1 within it."""

    def __init__(self, message: str, column: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.column = column


@dataclass(frozen=True, slots=True)
class CompiledExpression:
    """A compiled expression, safe to share between threads."""

    text: str
    program: _Program
    wants_bool: bool

    def evaluate(self, event: Json, headers: Mapping[str, str] | None = None) -> Json:
        """Return its value for a payload and headers. Raises `ExpressionError` if it cannot be evaluated."""
        folded = {key.lower(): value for key, value in (headers or {}).items()}
        try:
            result = self.program.eval(data={"event": event, "headers": folded})
            value = result.plain_value()
        except MemoryError:
            raise
        except Exception as error:  # the library raises what its C++ core threw  # noqa: BLE001
            raise ExpressionError(_clean(str(error))) from None
        if "error" in result.type().name().lower():
            raise ExpressionError(_clean(str(value)))
        if self.wants_bool and not isinstance(value, bool):
            raise ExpressionError("the expression is not true or false")
        return _json(value)


def aliased(text: str) -> str:
    """Return ``text`` with ``$`` as ``event`` outside of quotes, and header names in lower case."""
    out = []
    for match in _TOKEN.finditer(text):
        out.append("event" if match.lastgroup == "dollar" else match.group())
    return _HEADER_KEY.sub(lambda m: m.group(1) + m.group(2) + m.group(3).lower() + m.group(4), "".join(out))


@cache
def _environment() -> _Environment:
    from cel_expr_python import cel

    text = cel.Type.STRING
    environment: _Environment = cel.NewEnv(variables={"event": cel.Type.DYN, "headers": cel.Type.Map(text, text)})
    return environment


class _Programs:
    """Compiled expressions by text. The cache is bounded by length: a program can be 160 times as large as its text."""

    def __init__(self, *, wants_bool: bool) -> None:
        self._wants_bool = wants_bool
        self._known: dict[str, CompiledExpression] = {}
        self._length = 0

    def get(self, text: str) -> CompiledExpression:
        expression = self._known.get(text)
        if expression is None:
            expression = _compile(text, wants_bool=self._wants_bool)
            self._length += len(text)
            if self._length > MAX_CACHED:
                self._known.clear()
                self._length = len(text)
            self._known[text] = expression
        return expression


_CONDITIONS, _VALUES = _Programs(wants_bool=True), _Programs(wants_bool=False)


def compile_filter(text: str) -> CompiledExpression:
    """Compile a condition; raises `ExpressionError` with the place of the mistake."""
    return _CONDITIONS.get(text)


def compile_value(text: str) -> CompiledExpression:
    """Compile an expression for a value of any type; raises `ExpressionError`."""
    return _VALUES.get(text)


def _compile(text: str, *, wants_bool: bool) -> CompiledExpression:
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"longer than {MAX_LENGTH} characters")
    if not text.strip():
        raise ExpressionError("empty")
    _check_characters(text)
    try:
        program = _environment().compile(aliased(text))
    except Exception as error:  # the library raises what its C++ core threw  # noqa: BLE001
        place = _PLACE.search(str(error))
        if place is None:
            raise ExpressionError(_clean(str(error))) from None
        raise ExpressionError(_clean(place.group(3)), _column(text, int(place.group(2)))) from None
    for match in _MATCHES.finditer(text):
        _check_literal(match)
    kind = program.return_type().name().lower()
    if wants_bool and kind not in {"bool", "dyn"}:
        raise ExpressionError(f"the expression is {kind}, not true or false")
    return CompiledExpression(text, program, wants_bool)


def _check_characters(text: str) -> None:
    """Refuse characters that CEL does not use outside of strings: its own parser needs 10 µs to report each."""
    for match in _TOKEN.finditer(text):
        char = match.group()
        if match.lastgroup == "other" and char not in _CHARACTERS:
            raise ExpressionError(f"the character {char!a} has no meaning outside of a string", match.start() + 1)


def _check_literal(match: re.Match[str]) -> None:
    """Check a literal pattern now: CEL itself reports an invalid one only when it evaluates an event."""
    try:
        check_pattern(str(_environment().compile(match.group(1)).eval(data={}).value()))
    except ExpressionError as error:
        raise ExpressionError(error.message, match.start(1) + 1) from None


def check_pattern(pattern: str) -> None:
    """Raise `ExpressionError` unless ``pattern`` is an RE2 regular expression of bounded size. RE2 is linear in the text (F14)."""
    if len(pattern) > MAX_LENGTH:
        raise ExpressionError(f"longer than {MAX_LENGTH} characters")
    try:
        short = without_repetitions(pattern)
    except PatternTooLarge as error:
        raise ExpressionError(str(error)) from None
    result = _pattern_program().eval(data={"event": {"text": "", "pattern": short}, "headers": {}})
    if "error" in result.type().name().lower():
        raise ExpressionError(_clean(str(result.value())))


@cache
def _pattern_program() -> _Program:
    return _environment().compile("event.text.matches(event.pattern)")


@dataclass(frozen=True, slots=True)
class Constraints:
    """A ``payload`` filter: each key, or dotted path, of the payload with the regular expression that its value must contain."""

    patterns: tuple[tuple[str, str], ...]

    def evaluate(self, event: Json, headers: Mapping[str, str] | None = None) -> bool:
        """Whether all hold. A missing value counts as an empty string, and one that is not a string as its JSON."""
        del headers
        return all(self._matches(_at_path(event, key), pattern) for key, pattern in self.patterns)

    @staticmethod
    def _matches(value: Json, pattern: str) -> bool:
        text = text_of(value)
        result = _pattern_program().eval(data={"event": {"text": text, "pattern": pattern}, "headers": {}}).value()
        if not isinstance(result, bool):
            raise ExpressionError(_clean(str(result)))
        return result


def compile_constraints(patterns: Mapping[str, str]) -> Constraints:
    """Return the constraints of a ``payload`` filter. Raises `ExpressionError` for an invalid pattern."""
    for pattern in patterns.values():
        check_pattern(pattern)
    return Constraints(tuple(patterns.items()))


def _at_path(event: Json, key: str) -> Json:
    if isinstance(event, Mapping) and key in event:
        return event[key]
    node: Json = event
    for part in key.removeprefix("$.").split("."):
        if isinstance(node, Mapping):
            node = node.get(part)
        elif isinstance(node, list) and part.isdecimal() and int(part) < len(node):
            node = node[int(part)]
        else:
            return None
    return node


def _json(value: object) -> Json:
    """Return a value of CEL as JSON, as CEL's own conversion writes it: times in RFC 3339, durations in seconds."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, list):
        return [_json(item) for item in value]
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): _json(item) for key, item in value.items()}
    raise ExpressionError(f"the expression gives a {type(value).__name__}, which is not JSON")


def without_nul(value: Json) -> Json:
    """Return ``value`` with U+FFFD for each NUL in its strings: CEL's library ends a string there, and a filter would see half of it."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, Mapping):
        return {key.replace("\0", "\ufffd"): without_nul(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nul(item) for item in value]
    return value


def _column(text: str, column: int) -> int:
    """Return the column in the text of the user: each ``$`` before it has five characters in the compiled text."""
    position = 0
    for index, char in enumerate(text, 1):
        position += len("event") if char == "$" else 1
        if position >= column:
            return index
    return max(1, len(text))


def _clean(text: str) -> str:
    first = re.sub(r"^(INVALID_ARGUMENT|UNKNOWN|NOT_FOUND|INTERNAL|ERROR)\s*:\s*", "", text.strip().split("\n")[0])
    return first.split(" expecting {")[0][:300] or "it cannot be read"
