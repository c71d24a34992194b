"""Schemas → the manifest reference in Markdown (``docs/manifests.md`` is made of it, and a test holds the two together). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from reconciler.manifests import schema as schemas

_INTRODUCTION: Final = """\
# Manifests

One repository of YAML, in any folder layout, with several documents in a file. Manifests are the files `*.yaml` and `*.yml` below
`source.path`, without dot files and dot folders, the daemon's own configuration, and what `.reconcilerignore` names (gitignore
syntax, 64 KiB at most). Any other YAML file there is an error, so that a misspelt `kind` is never passed over.

`apiVersion` is `v1` and may be left out. Identity is `kind`, canvas and `name`; the same identity in two places refuses both.
A reference is looked up in the resource's own canvas, then in `default`, and nowhere else.

All problems of a revision are reported at once, each with file, line, column, a JSON pointer, a [code](errors/README.md) and what
was probably meant. A document that is not valid keeps its last valid state; the others go on, and nothing is pruned.

## YAML

The part of YAML 1.2 that manifests use: mappings, lists, text, numbers, `true`, `false`, `null`.

- Files are UTF-8 without a byte order mark, at most 1 MiB, 1,000 documents, 50,000 nodes and 32 levels.
- Anchors, aliases, merge keys (`<<`), tags and directives are refused, and so are duplicate keys and keys that are no text.
- Control, zero-width and bidirectional characters are refused, written as they are or as escapes.
- `on`, `yes` and `no` are text. So are dates, `12:30`, `0777` and `0o17`.

Enum values may be written short or as in Superplane: `token` or `AUTH_TYPE_TOKEN`, `event-source` or `TYPE_EVENT_SOURCE`.

## Credentials

A manifest never holds a value, only a reference to the key of a [Secret](#secret):

```yaml
token:
  valueFrom:
    secret: {name: code-host, key: token}
```

A literal there is an error, and so is text anywhere that looks like a token or a private key. The message never repeats it.

## Expressions

Filters and values are [CEL](https://github.com/google/cel-spec), compiled when the manifest is validated. `$` (also `event`) is
the payload; `headers` are the request's headers, whose names fold case. Whole numbers of the payload compare with whole numbers.

```yaml
filters:
  - type: data
    data: {expression: '$.ref == "refs/heads/main" && !$.deleted'}
  - type: header
    header: {expression: 'headers["X-Event-Type"] == "push"'}
  - type: payload
    payload: {ref: "^refs/heads/release/"}
```

A `payload` filter gives a key of the payload, else a dotted path, and a regular expression that is searched for in its value.
The syntax is that of [RE2](https://github.com/google/re2/wiki/Syntax). With its repetitions written out, an
expression may have 10,000 steps: `x{0,1000}` has 1,000.

## Templates

`${{ inputs.NAME }}`, `${{ secrets.NAME }}` and `${{ event.PATH }}` are look-ups and no code. They are put into single values
after the YAML was read, so no value can change what stands around it. A template that is the whole value keeps the type of what
it finds.
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
