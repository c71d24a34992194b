"""Templates: ``${{ inputs.X }}``, ``${{ secrets.X }}``, ``${{ event.path }}``: dotted look-ups, no code, resolved after parsing.

A template goes into a scalar only, so no value can change the structure around it. One that is the whole scalar keeps its type
(`resolve`), except where the field holds text (`resolve_text`); inside of a text a value is written as `text_of` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.model.values import text_of

_TEMPLATE = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)+")
ROOTS = ("inputs", "secrets", "event")


_MEANT = re.compile(r"\$\{\{\s*(?:inputs|secrets|event)\b")


class TemplateError(Exception):
    """A template that names nothing that exists, or is not a dotted path."""


def has_template(value: Any) -> bool:
    """Whether ``value`` is text with a template in it."""
    return isinstance(value, str) and _TEMPLATE.search(value) is not None


def references(value: Any) -> Iterator[str]:
    """Yield every dotted path named in ``value``, however deep; raises `TemplateError` for what is no path."""
    if isinstance(value, str):
        for match in _TEMPLATE.finditer(value):
            path = match.group(1).strip()
            if not _PATH.fullmatch(path) or path.partition(".")[0] not in ROOTS:
                raise TemplateError(f"{path[:60]!r} is not one of inputs.NAME, secrets.NAME, event.PATH")
            yield path
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from references(item)


def looks_like_template(text: str) -> bool:
    """Whether somebody meant a template in ``text``."""
    return _MEANT.search(text) is not None


def resolve(value: Any, scope: Mapping[str, Any]) -> Any:
    """Return ``value`` with every template replaced from ``scope``; raises `TemplateError` for a path that is not there."""
    if isinstance(value, str):
        whole = _TEMPLATE.fullmatch(value.strip())
        if whole is not None and len(_TEMPLATE.findall(value)) == 1:
            return _look_up(whole.group(1).strip(), scope)
        return _TEMPLATE.sub(lambda m: text_of(_look_up(m.group(1).strip(), scope)), value)
    if isinstance(value, Mapping):
        return {key: resolve(item, scope) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [resolve(item, scope) for item in value]
    return value


def resolve_text(value: Any, scope: Mapping[str, Any]) -> Any:
    """Return ``value`` like `resolve`, for fields that hold text: a template that is the whole scalar becomes text, too."""
    if isinstance(value, str):
        return text_of(resolve(value, scope))
    if isinstance(value, Mapping):
        return {key: resolve_text(item, scope) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [resolve_text(item, scope) for item in value]
    return value


def _look_up(path: str, scope: Mapping[str, Any]) -> Any:
    current: Any = scope
    for part in path.split("."):
        if isinstance(current, Mapping) and part in current:
            current = current[part]
        elif isinstance(current, list | tuple) and part.isdigit() and int(part) < len(current):
            current = current[int(part)]
        else:
            raise TemplateError(f"{path!r} is not there")
    return current
