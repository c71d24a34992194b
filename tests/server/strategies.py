"""Values that a JSON Schema allows, and values that it does not: only what the API's own schemas use is understood."""

from typing import Any

from hypothesis import strategies as st

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(max_size=12), ANYTHING, max_size=4)


def allowed(schema: Any, document: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return a strategy of values that ``schema`` allows."""
    if schema is True:
        return ANYTHING
    if "$ref" in schema:
        return allowed(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema.get("type")
    if kind == "string":
        return _texts(schema)
    if kind == "integer":
        return st.integers(schema.get("minimum", -1000), schema.get("maximum", 1000))
    if kind == "number":
        return st.floats(schema.get("exclusiveMinimum", 0), schema.get("maximum", 1e6), exclude_min=True)
    if kind == "object":
        return _objects(schema, document)
    raise AssertionError(f"not understood: {schema}")


def _texts(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    least, most = schema.get("minLength", 0), schema.get("maxLength", 60)
    if "pattern" not in schema:
        return st.text(st.characters(exclude_categories=["Cs"]), min_size=least, max_size=min(most, 60))
    made = st.from_regex(schema["pattern"].replace("$", r"\Z"), fullmatch=True)
    return made.filter(lambda one: least <= len(one) <= most and one.isprintable())


def _objects(schema: dict[str, Any], document: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    if "properties" not in schema:
        return OBJECTS
    needed = set(schema.get("required", ()))
    parts = {name: allowed(one, document) for name, one in schema["properties"].items()}
    return st.fixed_dictionaries(
        {name: one for name, one in parts.items() if name in needed},
        optional={name: one for name, one in parts.items() if name not in needed},
    )


def bodies(schema: Any, document: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return a strategy of bodies: good ones, good ones with one thing wrong, and anything at all."""
    good = allowed(schema, document)
    spoiled = st.builds(lambda one, name, value: {**one, name: value}, good, st.text(max_size=8), ANYTHING)
    swapped = st.builds(lambda one, value, at: _swapped(one, value, at), good, ANYTHING, st.integers(0, 9))
    return good | good | spoiled | swapped | ANYTHING


def _swapped(one: dict[str, Any], value: Any, at: int) -> dict[str, Any]:
    names = sorted(one)
    return {**one, names[at % len(names)]: value} if names else one
