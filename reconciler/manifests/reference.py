"""Schemas → the manifest reference in Markdown (docs/generate.py writes ``docs/manifests.md`` from it, and a test compares the two). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple

import msgspec

from reconciler.manifests import schema as schemas

_INTRODUCTION: Final = """\
# Manifests

Every kind of manifest, with an example and all fields.

The daemon reads all `*.yaml` and `*.yml` files below `source.path` as manifests, in any folder layout, with any number of documents in
a file. It ignores dot files, dot folders, its own configuration, and the files that `.reconcilerignore` lists (gitignore syntax, at
most 64 KiB). Any other YAML file is an error, so that a misspelt `kind` is not overlooked.

`apiVersion` is `v1` and is optional. `kind`, canvas and `name` identify a resource; if two documents have the same identity, both are
rejected. A reference resolves in the canvas of the resource first, then in `default`, and nowhere else.

All errors of a revision are reported at once, with file, line, column, JSON pointer, [code](errors/README.md) and a suggestion. The
resources of an invalid document keep their last valid spec, the others are updated, and nothing is pruned.

## YAML

Manifests use a subset of YAML 1.2: mappings, lists, strings, numbers, `true`, `false`, `null`.

- Files must be UTF-8 without a byte order mark, with at most 1 MiB, 1,000 documents, 50,000 nodes and 32 levels.
- Anchors, aliases, merge keys (`<<`), tags, directives, duplicate keys and non-string keys are rejected.
- Control, zero-width and bidirectional characters are rejected, both literal and escaped.
- `on`, `yes` and `no` are strings. So are dates, `12:30`, `0777` and `0o17`.

You can write enum values in the short form or as in Superplane: `token` or `AUTH_TYPE_TOKEN`, `event-source` or `TYPE_EVENT_SOURCE`.

## Credentials

A manifest contains no credentials, only references to a key of a [Secret](#secret):

```yaml
token:
  valueFrom:
    secret: {name: code-host, key: token}
```

A literal value is an error, and so is any text that looks like a token or a private key. The message does not repeat the value.

## Expressions

Filters and values are [CEL](https://github.com/google/cel-spec) expressions. Validation compiles them. `$` (also `event`) is the
payload; `headers` are the headers of the request, with case-insensitive names. Whole numbers in the payload are CEL integers.

```yaml
filters:
  - type: data
    data: {expression: '$.ref == "refs/heads/main" && !$.deleted'}
  - type: header
    header: {expression: 'headers["X-Event-Type"] == "push"'}
  - type: payload
    payload: {ref: "^refs/heads/release/"}
```

A `payload` filter maps a key of the payload, or a dotted path, to a regular expression that must be found in its value. The syntax is
[RE2](https://github.com/google/re2/wiki/Syntax). With its repetitions expanded, an expression can have 10,000 steps: `x{0,1000}` has
1,000.

## Templates

`${{ inputs.NAME }}`, `${{ secrets.NAME }}` and `${{ event.PATH }}` insert a value; they cannot contain code. The daemon inserts them after
it has parsed the YAML, so a value cannot change the text around it. A template that is the whole value keeps the type of its value.
"""


class _Node(msgspec.Struct, rename="camel"):
    """The part of a JSON Schema that the page shows."""

    description: str = ""
    title: str = ""
    type: str | list[str] = ""
    enum: list[str] = []
    default: str | int | bool | None = None
    examples: list[object] = []
    required: list[str] = []
    properties: dict[str, _Node | Literal[False]] = {}
    additional_properties: _Node | bool = True
    items: _Node | None = None
    any_of: list[_Node] = []
    all_of: list[_Node] = []
    then: _Node | None = None
    ref: str = msgspec.field(name="$ref", default="")
    defs: dict[str, _Node] = msgspec.field(name="$defs", default={})


class _Row(NamedTuple):
    key: str
    required: bool
    value: str
    meaning: str


def render() -> str:
    """Return the page."""
    pages = (_kind(kind, msgspec.convert(document, _Node)) for kind, document in schemas.documents().items())
    return _INTRODUCTION + "".join(pages)


def _kind(kind: str, document: _Node) -> str:
    out = [f"\n## {kind}\n\n{document.description}\n\n"]
    out += [f"```yaml\n{_yaml(example)}```\n" for example in document.examples]
    out.append("\n| key | value | meaning |\n|---|---|---|\n")
    spec = document.properties["spec"]
    out += [
        f"| `{row.key}`{' *' if row.required else ''} | {_escaped(row.value)} | {_escaped(row.meaning)} |\n"
        for row in (_rows(spec, "spec", document.defs, ()) if spec else ())
    ]
    out.append("\n`*` is required. ")
    out.append(f"Schema: `reconciler schema {kind}`.\n")
    return "".join(out)


def _rows(node: _Node, path: str, defs: Mapping[str, _Node], seen: tuple[str, ...]) -> Iterator[_Row]:
    """Yield a row for each key below ``node``. The keys of a definition in `_DESCRIBED_ONCE` are left out."""
    for key, raw in node.properties.items():
        if raw is False:
            continue
        inner, name = _resolved(raw, defs)
        yield _Row(f"{path}.{key}", key in node.required, _value(inner, name, defs), raw.description or inner.description)
        if name in seen or name in _DESCRIBED_ONCE:
            continue
        yield from _rows(inner, f"{path}.{key}", defs, (*seen, name) if name else seen)
        yield from _branches(inner, f"{path}.{key}", defs)
        others = inner.additional_properties
        if isinstance(others, _Node) and others.properties:
            yield from _rows(others, f"{path}.{key}.KEY", defs, seen)
        if inner.items is not None:
            each, item_name = _resolved(inner.items, defs)
            if item_name not in seen:
                yield from _rows(each, f"{path}.{key}[]", defs, (*seen, item_name) if item_name else seen)


def _branches(node: _Node, path: str, defs: Mapping[str, _Node]) -> Iterator[_Row]:
    """Yield the keys of a block whose ``type`` decides them (the executors of a Stage)."""
    for branch in node.all_of:
        for key, inner in branch.then.properties.items() if branch.then is not None else ():
            if inner is not False and inner.additional_properties is False:
                for row in _rows(inner, f"{path}.{key}", defs, ()):
                    yield row._replace(meaning=f"{inner.title}: {row.meaning}")


_DESCRIBED_ONCE: Final = frozenset({"credential"})


def _resolved(node: _Node, defs: Mapping[str, _Node]) -> tuple[_Node, str]:
    """Return the definition that ``node`` refers to, and its name."""
    if not node.ref:
        return node, ""
    name = node.ref.rpartition("/")[2]
    return defs[name], name


def _value(node: _Node, name: str, defs: Mapping[str, _Node]) -> str:
    """Return a short description of the values of ``node``."""
    if name in {"credential", "duration", "expression", "instant"}:
        return {"credential": "`valueFrom`", "duration": "duration", "expression": "CEL", "instant": "RFC 3339 time"}[name]
    if node.enum:
        words = [word for word in node.enum if not (word.isupper() and _has_short(node.enum, word))]
        return ", ".join(f"`{word}`" for word in words) + _default(node)
    if node.any_of and not node.type:
        return " or ".join(dict.fromkeys(_value(*_resolved(option, defs), defs) for option in node.any_of)) + _default(node)
    words = [node.type] if isinstance(node.type, str) else node.type
    text = " or ".join(
        {"object": "mapping", "array": "list", "string": "text", "boolean": "true, false", "null": "nothing"}.get(w, w)
        for w in words
    )
    return text + _default(node)


def _has_short(values: list[str], word: str) -> bool:
    """Whether ``word`` is only Superplane's long spelling of another value."""
    short = [value for value in values if value.islower()]
    return bool(short) and (word.startswith(_LONG) or len(short) > 8)


_LONG: Final = (
    "AUTH_TYPE_",
    "FILTER_",
    "CONDITION_TYPE_",
    "TIMEOUT_BEHAVIOR_",
    "PROVIDER_",
    "RESULT_",
    "TYPE_",
    "WEEK_DAY_",
    "GIT_",
)
"""How Superplane's and other long spellings of a word start."""


def _default(node: _Node) -> str:
    default = node.default
    return "" if default is None else f" (default `{str(default).lower() if isinstance(default, bool) else default}`)"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _yaml(value: object) -> str:
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120))
