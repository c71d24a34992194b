"""Every provider's record by name. Pure data: no driver is imported, so that manifests, planning and the CLI may read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from reconciler.drivers.aws.spec import SPEC as AWS
from reconciler.drivers.azure.spec import SPEC as AZURE
from reconciler.drivers.buddy.spec import SPEC as BUDDY
from reconciler.drivers.capabilities import ObjectKind, Path, ProviderSpec
from reconciler.drivers.digitalocean.spec import SPEC as DIGITALOCEAN
from reconciler.drivers.dockerhub.spec import SPEC as DOCKERHUB
from reconciler.drivers.github.spec import SPEC as GITHUB
from reconciler.drivers.gitlab.spec import SPEC as GITLAB
from reconciler.drivers.google.spec import SPEC as GOOGLE
from reconciler.drivers.newrelic.spec import SPEC as NEWRELIC
from reconciler.drivers.semaphore.spec import SPEC as SEMAPHORE
from reconciler.drivers.spinnaker.spec import SPEC as SPINNAKER

SPECS: Mapping[str, ProviderSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (SEMAPHORE, GITHUB, GITLAB, BUDDY, AWS, AZURE, GOOGLE, DOCKERHUB, DIGITALOCEAN, NEWRELIC, SPINNAKER)
    }
)
SPELLINGS: Mapping[str, str] = MappingProxyType({other: spec.name for spec in SPECS.values() for other in spec.spellings})
"""Other spelling of a provider's name → its name."""
EXECUTORS: Mapping[str, ProviderSpec] = MappingProxyType(
    {name: spec for name, spec in SPECS.items() if spec.executor is not None}
)
OBJECT_KINDS: Mapping[str, tuple[ProviderSpec, ObjectKind]] = MappingProxyType(
    {each.kind: (spec, each) for spec in SPECS.values() for each in spec.objects}
)
"""Kinds of manifests that belong to a single provider."""
SINKS: Mapping[str, ProviderSpec] = MappingProxyType({spec.sink: spec for spec in SPECS.values() if spec.sink})
TOKEN_PATTERNS: tuple[str, ...] = tuple(pattern for spec in SPECS.values() for pattern in spec.token_patterns)


def _joined(tables: Iterable[Mapping[str, tuple[Path, ...]]]) -> Mapping[str, tuple[Path, ...]]:
    """Return all tables in one. Providers that share the name of an event add their paths; the first path that exists is read."""
    joined: dict[str, tuple[Path, ...]] = {}
    for table in tables:
        for event, paths in table.items():
            joined[event] = tuple(dict.fromkeys((*joined.get(event, ()), *paths)))
    return MappingProxyType(joined)


COMMITS: Mapping[str, tuple[Path, ...]] = _joined(spec.payload.commit for spec in SPECS.values())
"""Event type → where the payload names the commit."""
REFS: Mapping[str, tuple[Path, ...]] = _joined(spec.payload.ref for spec in SPECS.values())
"""Event type → where the payload names the ref."""
_NONE = ProviderSpec(name="", title="", auth=())


def spec_of(provider: str) -> ProviderSpec:
    """Return the record of ``provider``; one that can do nothing for a name that is not a provider."""
    return SPECS.get(provider, _NONE)


def is_event(provider: str, event_type: str) -> bool:
    """Whether a webhook of ``provider`` can subscribe to ``event_type``; always true where the types are not known."""
    spec = spec_of(provider)
    return not spec.events or (event_type.upper() if spec.events_upper else event_type) in spec.events
