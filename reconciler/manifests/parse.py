"""One file → parsed documents: everything that can be known without the other files, so that it can be cached by blob id."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson

from reconciler.manifests import schema as schemas
from reconciler.manifests.messages import problems_of
from reconciler.manifests.normalize import canonical_spec, word
from reconciler.manifests.text import YamlProblem
from reconciler.manifests.tokens import TOKENS, harmless
from reconciler.manifests.validate import check_document
from reconciler.manifests.yaml import MAX_PROBLEMS, Document, capped, escape, load_documents
from reconciler.model.codec import from_json, to_json
from reconciler.model.resources import Kind, Lifecycle
from reconciler.model.values import digest_of

LOADER_VERSION = "12"
"""Raised whenever what a file means changes: cached results of older loaders are not used."""


MAX_EXPLAINED = 500
"""Problems of one file after which no more are explained."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """One document after parsing, schema and the checks that need no other document."""

    kind: str
    canvas: str
    name: str
    line: int
    column: int
    spec: Mapping[str, Any] = field(default_factory=dict)
    lifecycle: Lifecycle = Lifecycle()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""
    valid: bool = True
    places: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Where references stand, by pointer: what checks across documents point at."""
    named: tuple[tuple[str, str, str], ...] = ()
    """(kind, name, pointer) of what a document refers to that does not fit its schema, as far as that can be read."""


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """All documents of a file, and its problems."""

    documents: tuple[Parsed, ...] = ()
    problems: tuple[tuple[YamlProblem, int], ...] = ()
    """(problem, index of the document it belongs to, or -1)."""

    def dump(self) -> bytes:
        """Return it as bytes for the cache."""
        return orjson.dumps(
            {"d": [_dump(one) for one in self.documents], "p": [[to_json(problem), index] for problem, index in self.problems]}
        )

    @classmethod
    def restore(cls, payload: bytes) -> ParsedFile:
        """Inverse of `dump`."""
        row = orjson.loads(payload)
        return cls(
            tuple(_restore(one) for one in row["d"]),
            tuple((from_json(YamlProblem, problem), index) for problem, index in row["p"]),
        )


_PLAIN = Lifecycle()


def _dump(one: Parsed) -> list[Any]:
    lifecycle = to_json(one.lifecycle) if one.lifecycle != _PLAIN else None
    return [
        one.kind,
        one.canvas,
        one.name,
        one.line,
        one.column,
        one.spec,
        lifecycle,
        one.labels,
        one.annotations,
        one.digest,
        one.valid,
        one.places,
        one.named,
    ]


def _restore(row: list[Any]) -> Parsed:
    lifecycle = from_json(Lifecycle, row[6]) if row[6] is not None else _PLAIN
    return Parsed(
        row[0],
        row[1],
        row[2],
        row[3],
        row[4],
        row[5],
        lifecycle,
        row[7],
        row[8],
        row[9],
        row[10],
        row[11],
        tuple((a, b, c) for a, b, c in row[12]),
    )


def parse_file(data: bytes, *, sandbox: bool, explain: bool = True) -> ParsedFile:
    """Parse and check one file on its own; without ``explain`` the reasons why a document fails its schema are left out: finding them is slow."""
    documents, broken = load_documents(data)
    parsed: list[Parsed] = []
    problems: list[tuple[YamlProblem, int]] = []
    for index, document in enumerate(documents):
        found, reported = _document(document, sandbox=sandbox, explain=explain and len(problems) < MAX_EXPLAINED)
        parsed.append(found)
        problems += [(problem, index) for problem in reported]
    problems += [(problem, -1) for problem in broken]
    return ParsedFile(tuple(parsed), tuple(problems))


def _document(document: Document, *, sandbox: bool, explain: bool) -> tuple[Parsed, list[YamlProblem]]:
    value = document.value
    kind, canvas, name = identity_of(value)
    declared = value.get("kind") if isinstance(value, dict) else None
    here = (document.line, document.column)
    problems = list(document.problems) + _token_problems(document)
    if any(problem.code in _ENDS for problem in document.problems):
        pass  # the rest was not read, and may hold what seems to be missing
    elif not isinstance(value, dict):
        problems.append(
            YamlProblem(
                "RC1012",
                "not a manifest: it must be a mapping with kind, metadata and spec",
                *here,
                hint="Name files that are not manifests in .reconcilerignore.",
            )
        )
    elif declared not in schemas.KINDS:
        problems.append(_no_kind(document, value))
    elif not schemas.fast(declared).is_valid(value):
        errors = islice(schemas.explaining(declared).iter_errors(value), MAX_PROBLEMS) if explain else ()
        problems += capped(problems_of(document, errors)) or [
            YamlProblem(
                "RC1101", f"it does not match the schema of {declared}", *here, hint=f"See `reconciler schema {declared}`."
            )
        ]
    if problems or not isinstance(value, dict):
        named = tuple(_readable_references(kind, value.get("spec"))) if isinstance(value, dict) else ()
        return Parsed(kind, canvas, name, *here, valid=False, places=_reference_places(document), named=named), problems
    spec, lifecycle = canonical_spec(kind, value.get("spec") or {})
    problems = check_document(kind, spec, lifecycle, document, sandbox=sandbox)
    metadata = value["metadata"]
    digest = digest_of([spec, to_json(lifecycle)])
    return Parsed(
        kind,
        canvas,
        name,
        *here,
        spec,
        lifecycle,
        metadata.get("labels") or {},
        metadata.get("annotations") or {},
        digest,
        not any(problem.code not in WARNINGS for problem in problems),
        _reference_places(document),
    ), problems


def _readable_references(kind: str, spec: Any) -> Iterator[tuple[str, str, str]]:
    """Yield the connections and integrations of a document whose schema fails elsewhere: their names are checked all the same."""
    for pointer in ("/spec/integration", "/spec/executor/integration"):
        found = spec.get("executor") if pointer.startswith("/spec/executor") and isinstance(spec, dict) else spec
        one = found.get("integration") if isinstance(found, dict) else None
        if isinstance(one, dict) and _is_name(one.get("name")):
            yield Kind.INTEGRATION.value, one["name"], f"{pointer}/name"
    listed = spec.get("connections") if isinstance(spec, dict) else None
    for index, one in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(one, dict) and isinstance(one.get("type"), str) and _is_name(one.get("name")):
            of = SOURCE_KINDS.get(word(one["type"]))
            if of is not None and kind in {Kind.STAGE.value, Kind.CONNECTION_GROUP.value}:
                yield of, one["name"], f"/spec/connections/{index}/name"


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and schemas.NAME.fullmatch(value) is not None


SOURCE_KINDS = {
    "event-source": Kind.EVENT_SOURCE.value,
    "stage": Kind.STAGE.value,
    "connection-group": Kind.CONNECTION_GROUP.value,
}
"""What a connection's ``type`` means."""
_ENDS = frozenset({"RC1005", "RC1006", "RC1008"})
"""Problems at which the reading of a document ended."""

WARNINGS: frozenset[str] = frozenset()
"""Codes that do not make a document invalid."""


def identity_of(value: Any) -> tuple[str, str, str]:
    """Return (kind, canvas, name) as far as they can be read."""
    if not isinstance(value, dict):
        return "", "default", ""
    kind, metadata = value.get("kind"), value.get("metadata")
    name, canvas = (
        (metadata.get("name"), metadata.get("canvasId", "default")) if isinstance(metadata, dict) else (None, "default")
    )
    if kind not in schemas.KINDS or not isinstance(name, str) or not isinstance(canvas, str):
        return "", "default", ""
    if not schemas.NAME.fullmatch(name) or not schemas.CANVAS.fullmatch(canvas) or TOKENS.search(f"{name} {canvas}"):
        return "", "default", ""  # an invalid name identifies nothing, and may not be safe to show
    return str(kind), canvas, name


def _no_kind(document: Document, value: Mapping[str, Any]) -> YamlProblem:
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
    """Refuse what looks like a credential, anywhere in the document; the message never contains it."""
    problems = []
    local = isinstance(document.value, dict) and document.value.get("kind") == "Secret"
    for pointer, text in _texts(document.value, ""):
        if local and pointer.startswith("/spec/local/data/"):
            continue  # refused as a whole outside of the sandbox, and allowed in it
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


def _texts(value: Any, pointer: str) -> Iterator[tuple[str, str]]:
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
    r"/(?:name|connection|key|movedFrom|match|url|apiUrl|address|names/\d+|events/\d+/type|resource/type|spec/type)\Z"
)


def _reference_places(document: Document) -> dict[str, tuple[int, int]]:
    return {pointer: place for pointer, place in document.values.items() if _REFERENCE.search(pointer)}
