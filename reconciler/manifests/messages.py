"""Errors of a schema → problems: the key, its place, the expected value and a suggestion. A credential is never shown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from reconciler.manifests.schema import SchemaError
from reconciler.manifests.text import YamlProblem
from reconciler.manifests.tokens import TOKENS, harmless
from reconciler.manifests.yaml import Document
from reconciler.model.json import Json, JsonMap, as_list, as_map, at, escape, text_at

MAX_SHOWN = 40


def problems_of(document: Document, errors: Iterable[SchemaError]) -> list[YamlProblem]:
    """Return one problem for each error, at the key or value that it is about."""
    problems = [problem for error in errors for leaf in _leaves(error) for problem in _problems(document, leaf)]
    return sorted(set(problems), key=lambda problem: (problem.line, problem.column, problem.message))


def _leaves(error: SchemaError) -> list[SchemaError]:
    """Return the errors below ``error``; of an ``anyOf`` or ``oneOf`` those of the branch that matches best."""
    if error.validator in {"anyOf", "oneOf"} and error.context:
        branches: dict[str | int, list[SchemaError]] = {}
        for inner in error.context:
            branches.setdefault(inner.schema_path[0], []).append(inner)
        if all(inner.validator == "required" and not inner.relative_path for inner in error.context):
            return [error]
        best = max(branches.values(), key=lambda errors: (max(len(e.absolute_path) for e in errors), -len(errors)))
        return [leaf for inner in best for leaf in _leaves(inner)]
    if error.validator == "if" or (error.validator == "allOf" and error.context):
        return [leaf for inner in error.context for leaf in _leaves(inner)]
    return [error]


def _pointer(path: Iterable[str | int]) -> str:
    return "".join(f"/{escape(str(part))}" for part in path)


def _place(document: Document, pointer: str, *, key: bool = False) -> tuple[int, int]:
    places = document.keys if key else document.values
    while pointer:
        if pointer in places:
            return places[pointer]
        pointer = pointer.rpartition("/")[0]
    return document.line, document.column


def _problems(document: Document, error: SchemaError) -> list[YamlProblem]:
    pointer, rule = _pointer(error.absolute_path), error.validator
    if rule == "additionalProperties":
        return _unknown_keys(document, error, pointer)
    if rule is None:
        message = f"{pointer.rpartition('/')[2]!r} has no meaning here"
        return [
            YamlProblem(
                "RC1107", message, *_place(document, pointer, key=True), pointer, "It belongs to another type; remove it."
            )
        ]
    code, message, hint = _of_rule(rule, error, pointer)
    return [YamlProblem(code, message, *_place(document, pointer), pointer, hint)]


def _of_rule(rule: str, error: SchemaError, pointer: str) -> tuple[str, str, str]:
    """Return code, message and hint for the rule of JSON Schema that a value breaks."""
    name, limit = pointer.rpartition("/")[2] or "the document", error.validator_value
    if rule == "required":
        missing = [key for key in as_list(limit) if key not in as_map(error.instance)]
        return "RC1102", f"{missing[0] if missing else limit!r} is missing in {_shown(pointer)}", _example(error.schema)
    if rule == "enum":
        message = f"{name}: {_value(error.instance)} is not one of the allowed values"
        return "RC1103", message, _near(error.instance, as_list(limit))
    if rule == "const":
        return "RC1103", f"{name}: must be {limit!r}, not {_value(error.instance)}", ""
    if rule == "type":
        expected = limit if isinstance(limit, str) else " or ".join(map(str, as_list(limit)))
        by_reference = at(error.schema, "properties", "valueFrom") is not None
        hint = "Credentials are given by reference: {valueFrom: {secret: {name, key}}}." if by_reference else ""
        return "RC1104", f"{name}: must be of type {expected}, not {_kind(error.instance)}", hint
    if rule == "pattern":
        return "RC1105", f"{name}: {_value(error.instance)} does not have the required form", _form(error.schema)
    if rule in {"oneOf", "anyOf"}:
        required = [as_list(at(option, "required")) for option in as_list(limit)]
        options = [" and ".join(map(str, keys)) for keys in required if keys]
        word = "exactly one" if rule == "oneOf" else "one"
        return "RC1106", f"{_shown(pointer)}: {word} of {', '.join(options) or 'several forms'} is required", ""
    return "RC1101", f"{name}: {_plain_rule(rule, limit)}", ""


def _unknown_keys(document: Document, error: SchemaError, pointer: str) -> list[YamlProblem]:
    known = list(as_map(error.schema.get("properties")))
    problems = []
    for key in as_map(error.instance):
        if key in known:
            continue
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        hint = f"Did you mean {near[0]!r}?" if near else ("Known here: " + ", ".join(known[:12]) if known else "")
        below = f"{pointer}/{escape(key)}"
        shown = pointer if TOKENS.search(key) else below
        message = f"unknown key {harmless(key, MAX_SHOWN)} in {_shown(pointer)}"
        problems.append(YamlProblem("RC1100", message, *_place(document, below, key=True), shown, hint))
    return problems


def _near(value: Json, allowed: Sequence[Json]) -> str:
    texts = [str(option) for option in allowed]
    near = difflib.get_close_matches(str(value), texts, n=1, cutoff=0.5)
    listed = ", ".join(texts[:14]) + (", …" if len(texts) > 14 else "")
    return (f"Did you mean {near[0]!r}? " if near else "") + f"Allowed: {listed}."


def _example(schema: JsonMap) -> str:
    examples = as_list(schema.get("examples"))
    return f"For example: {examples[0]}" if examples and len(str(examples[0])) < 160 else ""


def _form(schema: JsonMap) -> str:
    """Return the required form of a text, as its schema describes it."""
    examples = ", ".join(map(str, as_list(schema.get("examples"))))
    parts = (text_at(schema, "description"), f"For example: {examples}." if examples else "")
    return " ".join(part for part in parts if part)


def _plain_rule(rule: str, value: Json) -> str:
    return {
        "minItems": f"at least {value} required",
        "maxItems": f"at most {value} are allowed",
        "minLength": "it is empty or too short",
        "maxLength": f"longer than {value} characters",
        "minimum": f"less than {value}",
        "maximum": f"more than {value}",
        "uniqueItems": "an item is given twice",
        "minProperties": f"at least {value} key is required",
        "maxProperties": f"at most {value} key is allowed",
        "dependentRequired": "a key that belongs with another is missing",
    }.get(rule, f"breaks the rule {rule}")


def _shown(pointer: str) -> str:
    return pointer.strip("/").replace("/", ".") or "the document"


def _kind(value: Json) -> str:
    return {
        dict: "a mapping",
        list: "a list",
        str: "text",
        bool: "true/false",
        int: "a number",
        float: "a number",
        type(None): "nothing",
    }.get(type(value), "that")


def _value(value: Json) -> str:
    """Return a short form of a value for a message: names and words are shown, anything that could be a secret is not."""
    text = str(value)
    return harmless(text) if isinstance(value, str | int | float | bool) and len(text) <= MAX_SHOWN else _kind(value)
