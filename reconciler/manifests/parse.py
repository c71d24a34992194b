"""One file → parsed documents, with every check that needs no other file, so that the result can be cached by blob id."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice

import msgspec

from reconciler.manifests import schema as schemas
from reconciler.manifests.messages import problems_of
from reconciler.manifests.normalize import canonical_spec
from reconciler.manifests.references import Reference, readable_references
from reconciler.manifests.text import YamlProblem
from reconciler.manifests.tokens import TOKENS, harmless
from reconciler.manifests.validate import check_document
from reconciler.manifests.yaml import MAX_PROBLEMS, Document, Place, capped, load_documents
from reconciler.model.codec import to_json
from reconciler.model.json import Json, JsonMap, as_map, at, escape, text_at
from reconciler.model.resources import Kind, Lifecycle
from reconciler.model.values import JsonObject, digest_of

LOADER_VERSION = "14"
"""Raised when the meaning of a file or the form of the cache changes, so that older results are not used."""


MAX_EXPLAINED = 500
"""Most problems of one file that are explained."""


class Parsed(msgspec.Struct, frozen=True, array_like=True):
    """One document after parsing, schema and the checks that need no other document."""

    kind: str
    canvas: str
    name: str
    line: int
    column: int
    spec: JsonObject = {}
    lifecycle: Lifecycle = Lifecycle()
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    digest: str = ""
    valid: bool = True
    places: Mapping[str, Place] = {}
    """Places of the references by pointer, for the checks across documents."""
    named: tuple[Reference, ...] = ()
    """Each readable reference of a document that does not match its schema."""


class ParsedFile(msgspec.Struct, frozen=True, array_like=True):
    """All documents of a file, and its problems."""

    documents: tuple[Parsed, ...] = ()
    problems: tuple[tuple[YamlProblem, int], ...] = ()
    """(problem, index of its document, or -1)."""


def parse_file(data: bytes, *, sandbox: bool, explain: bool = True) -> ParsedFile:
    """Parse and check one file on its own.

    Without ``explain``, a document that does not match its schema has one general problem: finding the reasons is slow.
    """
    documents, broken = load_documents(data)
    parsed: list[Parsed] = []
    problems: list[tuple[YamlProblem, int]] = []
    for index, document in enumerate(documents):
        result, reported = _document(document, sandbox=sandbox, explain=explain and len(problems) < MAX_EXPLAINED)
        parsed.append(result)
        problems += [(problem, index) for problem in reported]
    problems += [(problem, -1) for problem in broken]
    return ParsedFile(tuple(parsed), tuple(problems))


def _document(document: Document, *, sandbox: bool, explain: bool) -> tuple[Parsed, list[YamlProblem]]:
    value = document.value
    kind, canvas, name = identity_of(value)
    here = (document.line, document.column)
    problems = [*document.problems, *_token_problems(document), *_schema_problems(document, explain=explain)]
    if problems or not isinstance(value, dict):
        named = tuple(readable_references(kind, at(value, "spec")))
        return Parsed(kind, canvas, name, *here, valid=False, places=_reference_places(document), named=named), problems
    spec, lifecycle = canonical_spec(kind, as_map(value.get("spec")))
    problems = check_document(kind, spec, lifecycle, document, sandbox=sandbox)
    return Parsed(
        kind,
        canvas,
        name,
        *here,
        spec,
        lifecycle,
        _texts_at(value, "labels"),
        _texts_at(value, "annotations"),
        digest_of([spec, to_json(lifecycle)]),
        not any(problem.code not in WARNINGS for problem in problems),
        _reference_places(document),
    ), problems


def _schema_problems(document: Document, *, explain: bool) -> list[YamlProblem]:
    value, here = document.value, (document.line, document.column)
    if any(problem.code in _ENDS for problem in document.problems):
        return []  # the rest was not read, and may contain what seems to be missing
    if not isinstance(value, dict):
        message = "not a manifest: it must be a mapping with kind, metadata and spec"
        return [YamlProblem("RC1012", message, *here, hint="Name files that are not manifests in .reconcilerignore.")]
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in schemas.KINDS:
        return [_no_kind(document, value)]
    if schemas.fast(kind).is_valid(value):
        return []
    errors = islice(schemas.explaining(kind).iter_errors(value), MAX_PROBLEMS) if explain else ()
    unexplained = YamlProblem("RC1101", f"it does not match the schema of {kind}", *here, hint=f"See `reconciler schema {kind}`.")
    return list(capped(problems_of(document, errors))) or [unexplained]


def _texts_at(document: JsonMap, key: str) -> dict[str, str]:
    """Return the labels or annotations of a valid document."""
    return {name: str(value) for name, value in as_map(at(document, "metadata", key)).items()}


_ENDS = frozenset({"RC1005", "RC1006", "RC1008"})
"""Problems that end the reading of a document."""

WARNINGS: frozenset[str] = frozenset()
"""Codes that do not make a document invalid."""


def identity_of(value: Json) -> tuple[str, str, str]:
    """Return (kind, canvas, name), or an empty kind and name where one of them is not valid."""
    kind, name = text_at(value, "kind"), text_at(value, "metadata", "name")
    canvas = at(value, "metadata", "canvasId") if "canvasId" in as_map(at(value, "metadata")) else "default"
    if kind not in schemas.KINDS or kind is None or name is None or not isinstance(canvas, str):
        return "", "default", ""
    if not schemas.NAME.fullmatch(name) or not schemas.CANVAS.fullmatch(canvas) or TOKENS.search(f"{name} {canvas}"):
        return "", "default", ""  # an invalid name identifies nothing, and may not be safe to show
    return kind, canvas, name


def _no_kind(document: Document, value: JsonMap) -> YamlProblem:
    import difflib

    if "kind" not in value:
        return YamlProblem(
            "RC1013",
            "not a manifest: it has no kind",
            document.line,
            document.column,
            hint="Kinds: " + ", ".join(kind.value for kind in Kind) + ". Name files that are not manifests in .reconcilerignore.",
        )
    text = str(value["kind"])[:64]
    near = difflib.get_close_matches(text, schemas.KINDS, n=1)
    hint = f"Did you mean {near[0]}?" if near else "Kinds: " + ", ".join(schemas.KINDS)
    return YamlProblem(
        "RC1014", f"unknown kind {harmless(text)}", *document.values.get("/kind", (document.line, document.column)), "/kind", hint
    )


def _token_problems(document: Document) -> list[YamlProblem]:
    """Return a problem for each text that looks like a credential. The message does not contain it."""
    problems = []
    local = at(document.value, "kind") == "Secret"
    for pointer, text in _texts(document.value, ""):
        if local and pointer.startswith("/spec/local/data/"):
            continue  # allowed in the sandbox; elsewhere the whole block is refused
        if TOKENS.search(text):
            problems.append(
                YamlProblem(
                    "RC1015",
                    "this looks like a credential; credentials do not belong in Git",
                    *document.values.get(pointer, (document.line, document.column)),
                    pointer,
                    "Revoke it, put a new one into a secret backend, and refer to it: {valueFrom: {secret: {name, key}}}.",
                )
            )
    return problems


def _texts(value: Json, pointer: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        if len(value) >= 15:
            yield pointer, value
    elif isinstance(value, dict):
        for key, item in value.items():
            if len(key) >= 15 and TOKENS.search(key):
                yield pointer, key
            yield from _texts(item, f"{pointer}/{escape(key)}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, f"{pointer}/{index}")


_REFERENCE = re.compile(
    r"/(?:name|connection|key|movedFrom|match|url|apiUrl|address|names/\d+|events/\d+/type|resource/type|spec/type"
    r"|executor/spec/auth|executor/spec/auth/\w+|executor/spec/headers/[^/]+)\Z"
)


def _reference_places(document: Document) -> dict[str, Place]:
    return {pointer: place for pointer, place in document.values.items() if _REFERENCE.search(pointer)}
