"""From a failed schema to words: which key, where, what was wanted, what was probably meant. Never a credential's value."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.manifests.text import YamlProblem
from reconciler.manifests.tokens import TOKENS, harmless
from reconciler.manifests.yaml import Document, escape

MAX_SHOWN = 40


def problems_of(document: Document, errors: Iterable[Any]) -> list[YamlProblem]:
    """Return one problem for each error of the explaining validator, at the key or value it is about."""
    found: list[YamlProblem] = []
    for error in errors:
        for leaf in _leaves(error):
            found.extend(_said(document, leaf))
    return sorted(set(found), key=lambda p: (p.line, p.column, p.message))


def _leaves(error: Any) -> list[Any]:
    """Of an anyOf or oneOf, keep the branch that came nearest."""
    if error.validator in {"anyOf", "oneOf"} and error.context:
        branches: dict[int, list[Any]] = {}
        for inner in error.context:
            branches.setdefault(inner.schema_path[0], []).append(inner)
        if all(inner.validator == "required" and not inner.relative_path for inner in error.context):
            return [error]
        best = max(branches.values(), key=lambda errors: (max(len(e.absolute_path) for e in errors), -len(errors)))
        return [leaf for inner in best for leaf in _leaves(inner)]
    if error.validator == "if" or (error.validator == "allOf" and error.context):
        return [leaf for inner in error.context for leaf in _leaves(inner)]
    return [error]


def _pointer(path: Iterable[Any]) -> str:
    return "".join(f"/{escape(str(part))}" for part in path)


def _at(document: Document, pointer: str, *, key: bool = False) -> tuple[int, int]:
    places = document.keys if key else document.values
    while pointer:
        if pointer in places:
            return places[pointer]
        pointer = pointer.rpartition("/")[0]
    return document.line, document.column


def _said(document: Document, error: Any) -> list[YamlProblem]:
    pointer, rule = _pointer(error.absolute_path), error.validator
    if rule == "additionalProperties":
        return _unknown_keys(document, error, pointer)
    if rule is None:
        message = f"{pointer.rpartition('/')[2]!r} has no meaning here"
        return [
            YamlProblem("RC1107", message, *_at(document, pointer, key=True), pointer, "It belongs to another type; remove it.")
        ]
    code, message, hint = _of_rule(rule, error, pointer)
    return [YamlProblem(code, message, *_at(document, pointer), pointer, hint)]


def _of_rule(rule: str, error: Any, pointer: str) -> tuple[str, str, str]:
    """Return code, message and hint for the rule of JSON Schema that a value breaks."""
    name = pointer.rpartition("/")[2] or "the document"
    if rule == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        key = missing[0] if missing else str(error.validator_value)
        return "RC1102", f"{key!r} is missing in {_shown(pointer)}", _example(error)
    if rule == "enum":
        message = f"{name}: {_value(error.instance)} is not one of the allowed values"
        return "RC1103", message, _near(error.instance, error.validator_value)
    if rule == "const":
        return "RC1103", f"{name}: must be {error.validator_value!r}, not {_value(error.instance)}", ""
    if rule == "type":
        expected = error.validator_value if isinstance(error.validator_value, str) else " or ".join(error.validator_value)
        by_reference = "valueFrom" in error.schema.get("properties", {})
        hint = "Credentials are given by reference: {valueFrom: {secret: {name, key}}}." if by_reference else ""
        return "RC1104", f"{name}: must be of type {expected}, not {_kind(error.instance)}", hint
    if rule == "pattern":
        return "RC1105", f"{name}: {_value(error.instance)} does not have the required form", _form(error.schema)
    if rule in {"oneOf", "anyOf"}:
        options = [" and ".join(option["required"]) for option in error.validator_value if "required" in option]
        word = "exactly one" if rule == "oneOf" else "one"
        return "RC1106", f"{_shown(pointer)}: {word} of {', '.join(options) or 'several forms'} is required", ""
    return "RC1101", f"{name}: {_plain_rule(rule, error.validator_value)}", ""


def _unknown_keys(document: Document, error: Any, pointer: str) -> list[YamlProblem]:
    known = list(error.schema.get("properties", {}))
    problems = []
    for key in error.instance:
        if key in known:
            continue
        near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.6)
        hint = f"Did you mean {near[0]!r}?" if near else ("Known here: " + ", ".join(known[:12]) if known else "")
        below = f"{pointer}/{escape(str(key))}"
        shown = pointer if TOKENS.search(str(key)) else below
        problems.append(
            YamlProblem(
                "RC1100",
                f"unknown key {harmless(str(key), MAX_SHOWN)} in {_shown(pointer)}",
                *_at(document, below, key=True),
                shown,
                hint,
            )
        )
    return problems


def _near(value: Any, allowed: list[Any]) -> str:
    texts = [str(one) for one in allowed]
    near = difflib.get_close_matches(str(value), texts, n=1, cutoff=0.5)
    listed = ", ".join(texts[:14]) + (", …" if len(texts) > 14 else "")
    return (f"Did you mean {near[0]!r}? " if near else "") + f"Allowed: {listed}."


def _example(error: Any) -> str:
    examples = error.schema.get("examples")
    return f"For example: {examples[0]}" if examples and len(str(examples[0])) < 160 else ""


def _form(schema: Mapping[str, Any]) -> str:
    """Return what a text must look like, as its schema describes it."""
    examples = ", ".join(str(one) for one in schema.get("examples", ()))
    return " ".join(part for part in (schema.get("description", ""), f"For example: {examples}." if examples else "") if part)


def _plain_rule(rule: str, value: Any) -> str:
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


def _kind(value: Any) -> str:
    return {
        dict: "a mapping",
        list: "a list",
        str: "text",
        bool: "true/false",
        int: "a number",
        float: "a number",
        type(None): "nothing",
    }.get(type(value), "that")


def _value(value: Any) -> str:
    """A short, harmless form of a value: names and words are shown, anything that could be a secret is not."""
    text = str(value)
    return harmless(text) if isinstance(value, str | int | float | bool) and len(text) <= MAX_SHOWN else _kind(value)
