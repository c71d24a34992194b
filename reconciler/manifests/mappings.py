"""Checks of input mappings against the inputs and connections of their stage. One cause gives one problem. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from reconciler.manifests.kinds import InputMappingSpec, StageSpec, ValueSpec

Found = tuple[str, str, str, str]
"""(code, pointer, message, hint)"""
DEPENDENT = frozenset({"RC1209", "RC1210", "RC1275"})
"""Codes of problems that follow from a connection whose name is wrong."""
WHERE = "/spec/inputMappings"


def mapping_problems(spec: StageSpec) -> Iterator[Found]:
    """Yield the problems of ``inputMappings``; each unknown name is reported once."""
    inputs = {each.name for each in spec.inputs}
    if inputs and not spec.input_mappings:
        yield "RC1209", "/spec", "there are inputs, but no inputMappings", ""
    yield from _triggers(spec)
    reported: set[str] = set()
    for index, mapping in enumerate(spec.input_mappings):
        yield from _values(mapping.values, f"{WHERE}/{index}", inputs, reported)
        yield from _sources(spec, mapping, f"{WHERE}/{index}")


def _trigger(mapping: InputMappingSpec) -> str | None:
    return mapping.when.triggered_by.connection if mapping.when is not None else None


def _triggers(spec: StageSpec) -> Iterator[Found]:
    """Check that each connection has one mapping, or that one mapping without `when` is for all."""
    connections = {each.name for each in spec.connections}
    named = [_trigger(mapping) for mapping in spec.input_mappings]
    for index, trigger in enumerate(named):
        at = f"{WHERE}/{index}"
        if trigger is None and len(named) > 1:
            yield "RC1209", at, "a mapping without `when` must be the only one", ""
        if trigger is not None and trigger not in connections:
            yield _no_connection(trigger, f"{at}/when/triggeredBy/connection", connections)
        if trigger is not None and trigger in named[:index]:
            yield "RC1208", at, f"the connection {trigger!r} has two mappings", ""
    known = {name for name in named if name is not None}
    if spec.inputs and known and not known - connections and None not in named:
        for name in sorted(connections - known):
            yield "RC1209", WHERE, f"events of {name!r} have no mapping, but there are inputs", ""


def _values(values: Iterable[ValueSpec], at: str, inputs: set[str], reported: set[str]) -> Iterator[Found]:
    names = [value.name for value in values]
    missing = inputs - set(names)
    for position, name in enumerate(names):
        if name not in inputs:
            near = difflib.get_close_matches(name, sorted(missing or inputs), n=1)
            missing -= set(near)  # it has a value, under a name that is misspelled
            if name not in reported:
                hint = f"Did you mean {near[0]!r}?" if near else f"Its inputs: {', '.join(sorted(inputs)) or 'none'}."
                yield "RC1210", f"{at}/values/{position}/name", f"{name!r} is not an input of this stage", hint
            reported.add(name)
        elif name in names[:position]:
            yield "RC1208", f"{at}/values/{position}/name", f"{name!r} has two values", ""
    for name in sorted(missing):
        yield "RC1209", at, f"the input {name!r} has no value", ""


def _sources(spec: StageSpec, mapping: InputMappingSpec, at: str) -> Iterator[Found]:
    """Check that a value reads only the event that arrived, not the event of another connection."""
    connections = {each.name for each in spec.connections}
    trigger = _trigger(mapping)
    serves = {trigger} if trigger is not None else connections
    unknown: set[str] = set() if trigger in connections or trigger is None else {trigger}
    for position, value in enumerate(mapping.values):
        data = value.value_from.event_data if value.value_from is not None else None
        place = f"{at}/values/{position}/valueFrom/eventData/connection"
        if data is None or data.connection in unknown:
            continue
        name = data.connection
        if name not in connections:
            unknown.add(name)
            yield _no_connection(name, place, connections)
        elif serves - {name} and not serves - connections:
            others = ", ".join(map(repr, sorted(serves - {name})))
            hint = "Give each connection a mapping of its own with `when: {triggeredBy: {connection: NAME}}`."
            yield "RC1275", place, f"the mapping is used for events of {others}, but reads the event of {name!r}", hint
            return  # the other values of this mapping have the same cause


def _no_connection(name: str, pointer: str, connections: Iterable[str]) -> Found:
    near = difflib.get_close_matches(name, sorted(connections), n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Its connections: {', '.join(sorted(connections))}."
    return "RC1210", pointer, f"{name!r} is not a connection of this stage", hint
