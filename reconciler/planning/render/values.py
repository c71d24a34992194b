"""Values as text: on one line, without what steers a terminal, a page or a runner, without tokens, and of bounded length.

Every renderer shows only such text. What is cut is counted: ``… (+1180)`` at the end, ``(+1180)…`` at the beginning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from reconciler.model.json import escape
from reconciler.model.printable import plain
from reconciler.model.values import JsonValue

VALUE_LIMIT = 16_384
"""Characters of one value in a document. Renderers for people cut further."""
LONG_LIST = 8
"""Elements of a list from which on a change shows only those that differ."""
_CONTEXT = 24
"""Equal characters that stay visible before the first difference of two long values."""
_SHORTEST = 12
_USERINFO = re.compile(r"(://)[^/@\s\"]+@")
_QUERY = re.compile(r"(://[^\s?#\"]*\?)[^\s\"]+")


def shown(text: str, limit: int = VALUE_LIMIT) -> str:
    """Return foreign text on one line, escaped and bounded. Runners of CI execute ``##[command]`` anywhere in a line."""
    text = bounded(text, limit) if len(text) > limit else text
    return plain(text).replace("##[", "#\\x23[")


def said(text: str) -> str:
    """Return a sentence that may quote foreign text and URLs, without tokens."""
    return shown(_without_tokens(text))


def bounded(text: str, limit: int) -> str:
    """Return ``text`` in at most ``limit`` characters, with the number of characters that were cut."""
    if len(text) <= limit:
        return text
    kept = max(limit - len(f"… (+{len(text)})"), 1)
    return f"{text[:kept]}… (+{len(text) - kept})"


def value_text(value: JsonValue) -> str:
    """Return ``value`` as JSON on one line."""
    return shown(json.dumps(without_tokens(value), ensure_ascii=False, sort_keys=True, default=list))


def value_texts(before: JsonValue, after: JsonValue) -> tuple[str, str]:
    """Return both sides of a change; of long lists only the elements that differ, behind the number of the others."""
    if isinstance(before, list | tuple) and isinstance(after, list | tuple) and max(len(before), len(after)) >= LONG_LIST:
        old, new = ([value_text(element) for element in side] for side in (before, after))
        lost, added = _without(old, new), _without(new, old)
        kept = _without(new, added)
        if kept and (lost or added) and kept == _without(old, lost):
            count = f"{len(kept)} unchanged"
            return shown(f"[{', '.join([count, *lost])}]"), shown(f"[{', '.join([count, *added])}]")
    return value_text(before), value_text(after)


def _without(texts: Sequence[str], others: Sequence[str]) -> list[str]:
    known = set(others)
    return [text for text in texts if text not in known]


def without_tokens(value: JsonValue) -> JsonValue:
    """Return ``value`` with the userinfo and the query's values of every URL cut: in a foreign hook they are often a token."""
    if isinstance(value, str):
        return _without_tokens(value)
    if isinstance(value, Mapping):
        return {key: without_tokens(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_tokens(item) for item in value]
    return value


def _without_tokens(text: str) -> str:
    return _QUERY.sub(r"\1…", _USERINFO.sub(r"\1", text)) if "://" in text else text


def leaves(value: JsonValue, path: str = "") -> Iterator[tuple[str, JsonValue]]:
    """Yield the values of ``value`` by JSON pointer (RFC 6901), sorted; lists stay whole."""
    if isinstance(value, Mapping) and value:
        for key in sorted(value):
            yield from leaves(value[key], f"{path}/{escape(key)}")
    elif path:
        yield path, value


def excerpts(before: str, after: str, width: int) -> tuple[str, str]:
    """Return both values in at most ``width`` characters each, from where they differ: what changed is never what is cut."""
    if max(len(before), len(after)) <= width:
        return before, after
    same = _equal_until(before, after)
    start = max(0, same - min(_CONTEXT, width // 3))
    return _window(before, start, width), _window(after, start, width)


def _equal_until(before: str, after: str) -> int:
    """Return how many first characters are equal, by bisection: values are long and there are many."""
    low, high = 0, min(len(before), len(after))
    while low < high:
        middle = (low + high + 1) // 2
        if before[low:middle] == after[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _window(text: str, start: int, width: int) -> str:
    if len(text) <= width:
        return text
    start = min(start, len(text) - width + len(f"(+{len(text)})…"))
    return bounded(f"(+{start})…{text[start:]}" if start > 0 else text, width)


def wrapped(text: str, width: int, most: int) -> list[str]:
    """Return ``text`` in lines of at most ``width`` characters, broken at spaces where there are any; ``most`` lines, the rest counted."""
    width = max(width, _SHORTEST)
    lines: list[str] = []
    rest = text
    while len(rest) > width and len(lines) < most - 1:
        at = rest.rfind(" ", width // 2, width + 1)
        head, rest = (rest[:at], rest[at + 1 :]) if at > 0 else (rest[:width], rest[width:])
        lines.append(head)
    return [*lines, bounded(rest, width)]
