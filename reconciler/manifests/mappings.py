"""Input mappings against the inputs and connections of their stage. One cause is one error. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Wrong = tuple[str, str, str, str]
"""(code, pointer, message, hint)"""
DEPENDENT = frozenset({"RC1209", "RC1210", "RC1275"})
"""Codes of problems that follow from a connection whose name is wrong."""
WHERE = "/spec/inputMappings"


def mapping_problems(spec: Mapping[str, Any]) -> Iterator[Wrong]:
    """Yield what is wrong with ``inputMappings``; names that are not the stage's are said once each."""
    inputs = {one["name"] for one in spec.get("inputs", ())}
    mappings = spec.get("inputMappings", ())
    if inputs and not mappings:
        yield "RC1209", "/spec", "there are inputs, but no inputMappings", ""
    yield from _triggers(spec)
    said: set[str] = set()
    for index, mapping in enumerate(mappings):
        yield from _values(mapping["values"], f"{WHERE}/{index}", inputs, said)
        yield from _sources(spec, mapping, f"{WHERE}/{index}")


def _triggers(spec: Mapping[str, Any]) -> Iterator[Wrong]:
    """Each connection has one mapping, or one mapping without `when` is for all."""
    connections = {one["name"] for one in spec["connections"]}
    mappings = spec.get("inputMappings", ())
    named = [mapping.get("when", {}).get("triggeredBy", {}).get("connection") for mapping in mappings]
    for index, trigger in enumerate(named):
        at = f"{WHERE}/{index}"
        if trigger is None and len(mappings) > 1:
            yield "RC1209", at, "a mapping without `when` must be the only one", ""
        if trigger is not None and trigger not in connections:
            yield _no_connection(trigger, f"{at}/when/triggeredBy/connection", connections)
        if trigger is not None and trigger in named[:index]:
            yield "RC1208", at, f"the connection {trigger!r} has two mappings", ""
    known = {name for name in named if name is not None}
    if spec.get("inputs") and known and not known - connections and None not in named:
        for name in sorted(connections - known):
            yield "RC1209", WHERE, f"events of {name!r} have no mapping, but there are inputs", ""


def _values(values: list[Mapping[str, Any]], at: str, inputs: set[str], said: set[str]) -> Iterator[Wrong]:
    given = [value["name"] for value in values]
    missing = inputs - set(given)
    for position, name in enumerate(given):
        if name not in inputs:
            near = difflib.get_close_matches(name, sorted(missing or inputs), n=1)
            missing -= set(near)  # it is there, under a name that is spelled in two ways
            if name not in said:
                hint = f"Did you mean {near[0]!r}?" if near else f"Its inputs: {', '.join(sorted(inputs)) or 'none'}."
                yield "RC1210", f"{at}/values/{position}/name", f"{name!r} is no input of this stage", hint
            said.add(name)
        elif name in given[:position]:
            yield "RC1208", f"{at}/values/{position}/name", f"{name!r} gets two values", ""
    for name in sorted(missing):
        yield "RC1209", at, f"the input {name!r} gets no value", ""


def _sources(spec: Mapping[str, Any], mapping: Mapping[str, Any], at: str) -> Iterator[Wrong]:
    """A value can be read from the event that came, and from no other connection's."""
    connections = {one["name"] for one in spec["connections"]}
    trigger = mapping.get("when", {}).get("triggeredBy", {}).get("connection")
    serves = {trigger} if trigger is not None else connections
    unknown: set[str] = set() if trigger in connections or trigger is None else {trigger}
    for position, value in enumerate(mapping["values"]):
        name = value.get("valueFrom", {}).get("eventData", {}).get("connection")
        place = f"{at}/values/{position}/valueFrom/eventData/connection"
        if name is None or name in unknown:
            continue
        if name not in connections:
            unknown.add(name)
            yield _no_connection(name, place, connections)
        elif serves - {name} and not serves - connections:
            others = ", ".join(repr(one) for one in sorted(serves - {name}))
            hint = "Give each connection a mapping of its own with `when: {triggeredBy: {connection: NAME}}`."
            yield "RC1275", place, f"the mapping is used for events of {others}, and reads the event of {name!r}", hint
            return  # the other values of this mapping have the same cause


def _no_connection(name: str, pointer: str, connections: Iterable[str]) -> Wrong:
    near = difflib.get_close_matches(name, sorted(connections), n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Its connections: {', '.join(sorted(connections))}."
    return "RC1210", pointer, f"{name!r} is no connection of this stage", hint
