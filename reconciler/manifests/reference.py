"""Schemas → the manifest reference in Markdown (docs/generate.py writes ``docs/manifests.md`` from it, and a test compares the two). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

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


def render() -> str:
    """Return the page."""
    return _INTRODUCTION + "".join(_kind(kind, document) for kind, document in schemas.documents().items())


def _kind(kind: str, document: Mapping[str, Any]) -> str:
    out = [f"\n## {kind}\n\n{document['description']}\n\n"]
    out += [f"```yaml\n{_yaml(example)}```\n" for example in document.get("examples", ())]
    spec = document["properties"]["spec"]
    rows = list(_rows(spec, "spec", document, ()))
    out.append("\n| key | value | meaning |\n|---|---|---|\n")
    out += [
        f"| `{name}`{'' if not required else ' *'} | {_escaped(value)} | {_escaped(text)} |\n"
        for name, required, value, text in rows
    ]
    out.append("\n`*` is required. ")
    out.append(f"Schema: `reconciler schema {kind}`.\n")
    return "".join(out)


def _rows(
    node: Mapping[str, Any], path: str, document: Mapping[str, Any], seen: tuple[str, ...]
) -> Iterator[tuple[str, bool, str, str]]:
    """Yield (key, required, value, meaning) of everything below ``node``; what is said once at `common` is not said again."""
    required = set(node.get("required", ()))
    for key, raw in node.get("properties", {}).items():
        if raw is False:
            continue
        inner, name = _resolved(raw, document)
        yield (
            f"{path}.{key}",
            key in required,
            _value(inner, name, document),
            str(raw.get("description") or inner.get("description", "")),
        )
        if name in seen or name in _TOLD_ONCE:
            continue
        yield from _rows(inner, f"{path}.{key}", document, (*seen, name) if name else seen)
        yield from _branches(inner, f"{path}.{key}", document)
        others = inner.get("additionalProperties")
        if isinstance(others, Mapping) and "properties" in others:
            yield from _rows(others, f"{path}.{key}.KEY", document, seen)
        items = inner.get("items")
        if isinstance(items, Mapping):
            each, item_name = _resolved(items, document)
            if item_name not in seen:
                yield from _rows(each, f"{path}.{key}[]", document, (*seen, item_name) if item_name else seen)


def _branches(node: Mapping[str, Any], path: str, document: Mapping[str, Any]) -> Iterator[tuple[str, bool, str, str]]:
    """Yield what a block holds for each type that decides it (the executors of a Stage)."""
    for branch in node.get("allOf", ()):
        for key, inner in branch.get("then", {}).get("properties", {}).items():
            if isinstance(inner, Mapping) and inner.get("additionalProperties") is False and inner.get("properties"):
                for name, required, value, text in _rows(inner, f"{path}.{key}", document, ()):
                    yield name, required, value, f"{inner['title']}: {text}"


_TOLD_ONCE: Final = frozenset({"credential"})


def _resolved(node: Mapping[str, Any], document: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """Return what ``node`` refers to, and the name of it."""
    reference = str(node.get("$ref", ""))
    if not reference:
        return node, ""
    name = reference.rpartition("/")[2]
    return document["$defs"][name], name


def _value(node: Mapping[str, Any], name: str, document: Mapping[str, Any]) -> str:
    """Return what may stand there, in few words."""
    if name in {"credential", "duration", "expression", "instant"}:
        return {"credential": "`valueFrom`", "duration": "duration", "expression": "CEL", "instant": "RFC 3339 time"}[name]
    if "enum" in node:
        words = [one for one in node["enum"] if not (isinstance(one, str) and one.isupper() and _has_short(node["enum"], one))]
        return ", ".join(f"`{one}`" for one in words) + _default(node)
    if "anyOf" in node and "type" not in node:
        return " or ".join(dict.fromkeys(_value(*_resolved(one, document), document) for one in node["anyOf"])) + _default(node)
    kind = node.get("type", "")
    words = [kind] if isinstance(kind, str) else list(kind)
    text = " or ".join(
        {"object": "mapping", "array": "list", "string": "text", "boolean": "true, false", "null": "nothing"}.get(w, w)
        for w in words
    )
    return text + _default(node)


def _has_short(values: list[Any], word: str) -> bool:
    """Whether ``word`` is only Superplane's long spelling of another value."""
    short = [one for one in values if isinstance(one, str) and one.islower()]
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


def _default(node: Mapping[str, Any]) -> str:
    default = node.get("default")
    return "" if default is None else f" (default `{str(default).lower() if isinstance(default, bool) else default}`)"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _yaml(value: Mapping[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True, width=120))
