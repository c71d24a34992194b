"""Content of an item: inputs by mapping, the parts of the event that templates name, and checks of their text. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from reconciler.drivers.specs import spec_of
from reconciler.manifests.cel import ExpressionError, compile_constraints, compile_value
from reconciler.manifests.kinds import EventDataSpec, InputMappingSpec, StageSpec, ValueSpec
from reconciler.manifests.templates import TemplateError, references, resolve, resolve_text
from reconciler.model.codec import to_json
from reconciler.model.errors import ReconcilerError
from reconciler.model.json import Json
from reconciler.model.values import DEEPEST, JsonObject, is_no_commit, text_of, too_deep
from reconciler.stages.provenance import same_ref

MAX_TEXT = 1_024
_WORD = r"(?![-#=])(?:[\w./:@+=,#%-]|(?<=\w)[~^])+"
SAFE_TEXT = re.compile(f"(?:{_WORD}(?: +{_WORD})*)?")
"""Text of an event that may go into a run unchecked: words that a shell does not interpret.

There is no quote, dollar, backslash, backtick, bracket, brace, separator, redirection, glob, exclamation mark or line break. No word
begins as an option (``-``), a comment (``#``), a home (``~``) or a command's path (zsh's ``=``) does, and no space is at an end. A
workflow that writes an input into a script line would run whatever an outsider named a branch.
"""
TYPED = frozenset({"payload", "clientPayload", "inputs"})
"""Fields of ``executor.spec`` that keep the types of values; an executor whose inputs are text converts them itself."""
LastInputs = Callable[[tuple[str, ...]], JsonObject | None]
"""Results that count → inputs of the newest finished execution that had one of them."""


MAX_RESOLVED = 4 << 20
"""Most characters of one ``executor.spec`` after templates: a value can be named many times."""


class InputError(ReconcilerError):
    """An item that cannot be queued."""

    code = "RC6034"


class SpecTooLarge(ReconcilerError):
    """The templates of ``executor.spec`` become more than `MAX_RESOLVED` characters."""

    code = "RC6066"


def build_inputs(spec: StageSpec, connection: str, payload: Json, last: LastInputs) -> dict[str, Json]:
    """Return the value of every input of a stage for an event that came by ``connection``; raises `InputError`."""
    declared = {field.name: field for field in spec.inputs}
    mapping = _mapping_for(spec.input_mappings, connection)
    if not declared or mapping is None:
        return {}
    guarded = spec_of(spec.executor.type).guarded
    inputs: dict[str, Json] = {}
    for mapped in mapping.values:
        what, pattern = f"input {mapped.name!r}", declared[mapped.name].pattern
        value, foreign = _value(mapped, connection, payload, last)
        _check_depth(what, value)
        if foreign and (guarded or pattern is not None):
            check_text(what, value, pattern)
        inputs[mapped.name] = value
    return inputs


def _mapping_for(mappings: Iterable[InputMappingSpec], connection: str) -> InputMappingSpec | None:
    """Return the first mapping for events of ``connection``: one without `when` is for every connection."""
    fitting = (each for each in mappings if each.when is None or each.when.triggered_by.connection == connection)
    return next(fitting, None)


def _value(mapped: ValueSpec, connection: str, payload: Json, last: LastInputs) -> tuple[Json, bool]:
    """Return a value and whether it comes from outside."""
    name, origin = mapped.name, mapped.value_from
    if origin is None:
        try:
            return resolve(mapped.value, {"event": payload}), any(True for _ in references(mapped.value))
        except TemplateError as error:
            raise InputError(f"input {name!r}: {error}") from None
    if origin.last_execution is not None:
        before = last(origin.last_execution.results)
        # It was checked when it was queued first, but perhaps for an executor that runs no jobs, or with another pattern.
        return (before or {}).get(name, ""), before is not None and name in before
    return _event_value(name, origin.event_data, connection, payload), True


def _event_value(name: str, data: EventDataSpec | None, connection: str, payload: Json) -> Json:
    if data is None or data.connection != connection:
        expected = data.connection if data is not None else ""
        raise InputError(
            f"input {name!r} comes from {expected!r}, but the event came by {connection!r}",
            hint="Give each connection a mapping of its own with `when.triggeredBy`.",
        )
    try:
        return compile_value(data.expression).evaluate(payload)
    except ExpressionError as error:
        raise InputError(f"input {name!r}: {error.message}") from None
    except RecursionError:
        raise InputError(f"input {name!r} is nested deeper than {DEEPEST} levels") from None


def check_text(what: str, value: Json, pattern: str | None = None) -> None:
    """Raise `InputError` for text of an event that may not go into a run, at any depth of ``value``."""
    for text in _texts(value):
        if len(text) > MAX_TEXT and pattern is None:
            raise InputError(
                f"{what} is longer than {MAX_TEXT} characters", hint=f"Allow it with the input's `pattern`: {_ADVICE}"
            )
        allowed = _whole(pattern, text) if pattern is not None else SAFE_TEXT.fullmatch(text) is not None
        if not allowed:
            why = (
                f"does not match {pattern!r}"
                if pattern is not None
                else f"has characters that a shell takes for its own{_first_of(text)}"
            )
            raise InputError(f"{what} {why}", hint=f"Allow it with the input's `pattern`: {_ADVICE}")


def _first_of(text: str) -> str:
    """Return the first part of ``text`` that a shell would interpret, for an error."""
    if text != text.strip(" "):
        return ": a space at an end"
    word = next((word for word in text.split(" ") if word and not re.fullmatch(_WORD, word)), "")
    return f": {word[:40]!a}" if word else ""


def _check_depth(what: str, value: Json) -> None:
    if too_deep(value):
        raise InputError(f"{what} is nested deeper than {DEEPEST} levels")


_ADVICE = "and hand it to scripts through `env`, never inside of their text."


def _whole(pattern: str, text: str) -> bool:
    return compile_constraints({"text": f"^(?:{pattern})$"}).evaluate({"text": text})


def _texts(value: Json) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def frozen_event(spec: StageSpec, payload: Json) -> dict[str, Json]:
    """Return the parts of ``payload`` that the templates of the executor and the report name, and nothing else of it.

    Raises `InputError` for a path that is not there, and for text that may not go into a run.
    """
    executor = spec.executor
    guarded = executor.spec if spec_of(executor.type).guarded else {key: executor.spec.get(key) for key in ("url", "headers")}
    kept: dict[str, Json] = {}
    try:
        for path in _event_paths([guarded, executor.resource_name]):
            value = _put(kept, path, payload)
            _check_depth(f"${{{{ {path} }}}}", value)
            check_text(f"${{{{ {path} }}}}", value)
        for path in _event_paths([executor.spec, executor.name, to_json(spec.report)]):
            _check_depth(f"${{{{ {path} }}}}", _put(kept, path, payload))
    except TemplateError as error:
        raise InputError(str(error)) from None
    return kept


def check_not_deleted(spec: StageSpec, origin: JsonObject, inputs: JsonObject, event: JsonObject) -> None:
    """Raise `InputError` if an event that deleted a ref would start a run on it, or pass its null commit on.

    A stage that cleans up after a deleted branch runs: its inputs and templates do not name the deleted commit. No run starts on a
    null commit, from any source; as an input it can be intended, as in the `before` of a new branch.
    """
    gone = str(origin.get("deleted", ""))
    if gone and any(is_no_commit(text) for text in _texts([inputs, event])):
        raise InputError(f"the event deleted {gone}: there is no commit to run", hint=_WITHOUT_DELETED)
    for field in ("ref", "branch", "tag", "revision"):
        try:
            named = resolve_text(spec.executor.spec.get(field, ""), {"inputs": inputs, "event": event})
        except TemplateError:
            continue  # a secret, which is read when the run starts
        if is_no_commit(str(named)):
            raise InputError(f"executor.spec.{field} is zeros: there is no commit to run", hint=_WITHOUT_DELETED)
        if gone and same_ref(str(named), gone):
            raise InputError(f"the event deleted {gone}: nothing can run on it", hint=_WITHOUT_DELETED)


_WITHOUT_DELETED = "Leave events of deleted refs out with a filter: `!$.deleted` for pushes."


def _event_paths(value: Json) -> list[str]:
    return sorted({path for path in references(value) if path.startswith("event.")})


def _put(kept: dict[str, Json], path: str, payload: Json) -> Json:
    """Copy the value at ``path`` into ``kept`` under the same path, and return it."""
    value: Json = resolve(f"${{{{ {path} }}}}", {"event": payload})
    node = kept
    parts = path.split(".")[1:]
    for part in parts[:-1]:
        inner = node.setdefault(part, {})
        if not isinstance(inner, dict):  # below a path that is kept whole already
            return value
        node = inner
    node[parts[-1]] = value
    return value


def resolved_spec(spec: JsonObject, scope: JsonObject) -> dict[str, Any]:
    """Return ``executor.spec`` with its templates replaced: bodies in JSON keep types, every other field holds text.

    Raises `TemplateError`, `SpecTooLarge`.
    """
    _check_size(spec, scope)
    return {key: (resolve if key in TYPED else resolve_text)(value, scope) for key, value in spec.items()}


def _check_size(spec: JsonObject, scope: JsonObject) -> None:
    """Raise `SpecTooLarge` before anything is built: the sizes of the values are added up, each as often as it is named."""
    named = Counter(references(spec))
    total = sum(count * len(text_of(resolve(f"${{{{ {path} }}}}", scope))) for path, count in named.items())
    if total > MAX_RESOLVED:
        raise SpecTooLarge(
            f"executor.spec becomes {total} characters; at most {MAX_RESOLVED} are allowed",
            hint="Pass a smaller part of the event, or name it less often.",
        )


def label_of(spec: StageSpec, inputs: JsonObject, event: JsonObject, default: str) -> str:
    """Return the label of an execution: ``executor.name`` with its templates replaced."""
    if not spec.executor.name:
        return default
    try:
        return str(resolve_text(spec.executor.name, {"inputs": inputs, "event": event}))[:200]
    except TemplateError as error:
        raise InputError(f"executor.name: {error}") from None
