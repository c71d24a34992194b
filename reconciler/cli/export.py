"""Manifests for existing objects at a provider, to adopt them. Foreign URLs become comments, never values."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping

from reconciler.drivers.capabilities import Path
from reconciler.drivers.specs import SPECS, spec_of
from reconciler.engine.current import Current
from reconciler.engine.masking import Mask, origin_of
from reconciler.model.errors import ReconcilerError, UsageError
from reconciler.model.objects import Observed, ObservedObject, Scope
from reconciler.model.printable import is_shown, plain
from reconciler.model.resources import ResourceId

_FOREIGN = Mask(lambda _: "")
"""Only scheme and host of a URL are written: its path may contain a credential."""
_RULES = {rule.type: rule for spec in SPECS.values() for rule in spec.export}


async def manifests_of(current: Current, integration: ResourceId, requested: Iterable[str]) -> str:
    """Return YAML for the objects in the ``requested`` scopes (repository, organization, workspace), or in all scopes in use."""
    link = await current.client(integration, explicit=True)
    scopes = _scopes(link.connection.provider, list(requested), link.connection.account) or [
        record.scope for record in await current.context.store.recorded(integration)
    ]
    if not scopes:
        raise UsageError(
            "nothing to read", hint="Name what to read: --scope OWNER/REPOSITORY, --scope ORGANIZATION or --scope WORKSPACE."
        )
    documents: list[str] = []
    for scope in sorted(set(scopes)):
        answer = await link.driver.types[scope.type].observe(link.api, scope, None)
        if isinstance(answer, Observed):
            documents += [_document(integration, scope, _FOREIGN.over(observed)) for observed in answer.objects]
    return "".join(documents) or "# no objects in these scopes\n"


def _scopes(provider: str, requested: list[str], account: str) -> list[Scope]:
    rules = spec_of(provider).export
    if not rules:
        raise ReconcilerError(f"export does not know {provider}", code="RC6010")
    if not requested:
        return [Scope(rule.type, account) for rule in rules if rule.account]
    return [
        Scope(rule.type, name)
        for name in requested
        for rule in rules
        if rule.qualified is None or rule.qualified == ("/" in name)
    ]


def _document(integration: ResourceId, scope: Scope, observed: ObservedObject) -> str:
    comment = f"# {plain(str(scope))} {plain(observed.external_id)}"
    url = _url(observed.attributes)
    if url:
        target = origin_of(url)[0]
        comment += f"\n# sends to {plain(target) if target else 'a hidden URL'} today; adopting it replaces URL and secret"
    return f"---\n{comment}\n{_yaml(_body(integration, scope, observed))}"


def _url(attributes: Mapping[str, object]) -> str:
    """Return the URL that an object sends to, or an empty text."""
    config = attributes.get("config")
    return str((config.get("url") if isinstance(config, Mapping) else attributes.get("target_url")) or "")


def _yaml(body: dict[str, object]) -> str:
    """Return ``body`` as YAML; characters that a manifest must not contain are escaped."""
    from ruamel.yaml import YAML

    out = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 4096
    yaml.allow_unicode = all(is_shown(character) for text in _texts(body) for character in text)
    yaml.dump(body, out)
    return out.getvalue()


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _body(integration: ResourceId, scope: Scope, observed: ObservedObject) -> dict[str, object]:
    rule = _RULES[scope.type]
    if not rule.resource:
        shown = {key: value for key, value in observed.attributes.items() if value not in (None, [], {})}
        return _manifest(
            rule.kind,
            str(observed.attributes.get("identifier", observed.external_id)),
            {
                "integration": {"name": integration.name},
                "workspace": scope.key,
                **shown,
                "lifecycle": {"management": "observe", "adopt": "ifIdentical"},
            },
        )
    if rule.names:
        names = sorted({str(name) for path in rule.names for name in _at(observed.attributes, path)})
        return _manifest(
            rule.kind,
            observed.natural_key,
            {
                "integration": {"name": integration.name},
                "resource": {"type": rule.resource, "names": names or ["unknown"]},
                "lifecycle": {"management": "observe"},
            },
        )
    events = [{"type": str(event)} for event in _at(observed.attributes, ("events", "*"))]
    name = scope.key.rpartition("/")[2]
    return _manifest(
        rule.kind,
        f"{name}-{observed.external_id}",
        {
            "integration": {"name": integration.name},
            "resource": {"type": rule.resource, "name": name},
            "events": events,
            "lifecycle": {"management": "observe", "adopt": "ifIdentical", "externalId": str(observed.external_id)},
        },
    )


def _at(value: object, path: Path) -> Iterator[object]:
    """Yield every value at ``path``; ``*`` is each item of a list."""
    if not path:
        yield value
    elif path[0] == "*":
        for item in value if isinstance(value, list | tuple) else ():
            yield from _at(item, path[1:])
    elif isinstance(value, Mapping) and path[0] in value:
        yield from _at(value[path[0]], path[1:])


def _manifest(kind: str, name: str, spec: Mapping[str, object]) -> dict[str, object]:
    clean = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:63].strip("-") or "unnamed"
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": clean}, "spec": _plain(spec)}


def _plain(value: object) -> object:
    """Return ``value`` as YAML can hold it: lists for tuples, no half surrogate pairs."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(value, str) else value
