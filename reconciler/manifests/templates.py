"""Templates: ``${{ inputs.X }}``, ``${{ secrets.X }}``, ``${{ event.path }}``: dotted look-ups, not code, resolved after parsing.

A template is part of a scalar, so no value can change the structure around it. A template that is the whole scalar keeps the type of its
value (`resolve`), except in a field that holds text (`resolve_text`). Within a text, `text_of` formats the value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from reconciler.model.json import Json
from reconciler.model.values import JsonValue, map_texts, text_of, texts_of

_TEMPLATE = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)+")
ROOTS = ("inputs", "secrets", "event")
_START = re.compile(r"\$\{\{\s*(?:inputs|secrets|event)\b")


class TemplateError(Exception):
    """A template whose path does not exist, or that is not a dotted path."""


def has_template(value: object) -> bool:
    """Whether ``value`` is text with a complete template, which is replaced."""
    return isinstance(value, str) and _TEMPLATE.search(value) is not None


def starts_template(text: str) -> bool:
    """Whether a template starts in ``text``, complete or not."""
    return _START.search(text) is not None


def references(value: Json) -> Iterator[str]:
    """Yield every dotted path named in ``value``, however deep; raises `TemplateError` for an invalid template."""
    for text in texts_of(value):
        for match in _TEMPLATE.finditer(text):
            path = match.group(1).strip()
            if not _PATH.fullmatch(path) or path.partition(".")[0] not in ROOTS:
                raise TemplateError(f"{path[:60]!r} is not one of inputs.NAME, secrets.NAME, event.PATH")
            yield path


def resolve(value: Json, scope: Mapping[str, Json]) -> Json:
    """Return ``value`` with every template replaced from ``scope``; raises `TemplateError` for a path that does not exist."""
    return map_texts(value, lambda text: _resolve(text, scope))


def resolve_text(value: Json, scope: Mapping[str, Json]) -> JsonValue:
    """Return ``value`` like `resolve`, for fields that hold text: a template that is the whole scalar becomes text, too."""
    return map_texts(value, lambda text: text_of(_resolve(text, scope)))


def _resolve(text: str, scope: Mapping[str, Json]) -> Json:
    whole = _TEMPLATE.fullmatch(text.strip())
    if whole is not None and len(_TEMPLATE.findall(text)) == 1:
        return _look_up(whole.group(1).strip(), scope)
    return _TEMPLATE.sub(lambda match: text_of(_look_up(match.group(1).strip(), scope)), text)


def _look_up(path: str, scope: Mapping[str, Json]) -> Json:
    current: Json = scope
    for part in path.split("."):
        if isinstance(current, Mapping) and part in current:
            current = current[part]
        elif isinstance(current, list | tuple) and part.isdigit() and int(part) < len(current):
            current = current[int(part)]
        else:
            raise TemplateError(f"{path!r} does not exist")
    return current
