"""What the statuses say that people may want to know: one signal for each abnormal condition, with the cause that it shares. Pure.

Signals of one cause have one key. Resources behind one dead credential, one unreachable provider or one missing Secret are one cause;
so are all blocked changes, all drift and all equal errors of one Integration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler.engine.compile import integration_of
from reconciler.model.errors import Problem, ReconcilerError
from reconciler.model.incidents import TEXT, IncidentSeverity, Signal, Topic, shown
from reconciler.model.resources import Kind, Resource, ResourceId
from reconciler.model.status import Condition, ConditionStatus, ConditionType, ResourceStatus

UNREACHABLE = frozenset({"ProviderUnavailable", "TLSFailed"})
"""Reasons that are about the provider and not about one resource."""
FAILING = UNREACHABLE | {"OutcomeUnknown", "ProviderProtocolError", "Failed"}
"""Reasons of Reconciling that are a failure; any other is ordinary waiting."""
RETRIES = 2
"""A failure that may pass is reported when this many passes in a row have shown it."""
NOT_FAILED = frozenset({"NotImplemented", "Busy", "InvalidManifest"})
"""Reasons of Stalled that are no failure, or that the incident of the manifests reports."""
RETRYING = "Retrying"
"""Reason of Delivering of a Notification whose message may yet be sent by one of the next attempts: no incident."""
SOURCE_KEY = "source"
MANIFESTS_KEY = "manifests"


@dataclass(frozen=True, slots=True)
class SignalSet:
    """All signals of one moment."""

    rows: tuple[Signal, ...] = ()
    silent: frozenset[str] = frozenset()
    """Paths of suspended resources, and keys of which nothing is known now: their incidents neither change nor end."""


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What is known of the source. ``host``: the name of this process's host, if the source is read by several."""

    error: ReconcilerError | None = None
    fetched: bool = False
    problems: tuple[Problem, ...] = ()
    host: str = ""


def signals_of(
    statuses: Mapping[ResourceId, ResourceStatus], resources: Mapping[ResourceId, Resource], source: SourceFacts
) -> SignalSet:
    """Return the signals of all statuses and of the source."""
    causes = _Causes(statuses, resources)
    rows: list[Signal] = []
    silent: set[str] = set()
    for identity in sorted(statuses):
        status = statuses[identity]
        if status.condition(ConditionType.SUSPENDED) is not None:
            silent.add(identity.path)
            continue
        rows += _of_status(status, causes)
    rows += _of_source(source)
    if source.error is None and not source.fetched:
        silent |= {_source_key(source), MANIFESTS_KEY}
    return SignalSet(tuple(rows), frozenset(silent))


class _Causes:
    """Finds what a resource's failure comes from."""

    def __init__(self, statuses: Mapping[ResourceId, ResourceStatus], resources: Mapping[ResourceId, Resource]) -> None:
        self._statuses = statuses
        self._resources = resources

    def integration(self, identity: ResourceId) -> ResourceId | None:
        if identity.kind == Kind.INTEGRATION.value:
            return identity
        resource = self._resources.get(identity)
        if resource is not None:
            return integration_of(resource)
        status = self._statuses.get(identity)
        return ResourceId.from_path(status.integration) if status is not None and status.integration else None

    def refused(self, integration: ResourceId | None) -> Condition | None:
        """Return the condition of a credential that does not work."""
        status = self._statuses.get(integration) if integration is not None else None
        condition = status.condition(ConditionType.CREDENTIALS_VALID) if status is not None else None
        return condition if condition is not None and condition.status is ConditionStatus.FALSE else None

    def secret(self, identity: ResourceId) -> ResourceId | None:
        """Return a Secret that cannot be read and that ``identity``, or its Integration, refers to."""
        owners = [self._resources.get(identity)]
        if (integration := self.integration(identity)) is not None:
            owners.append(self._resources.get(integration))
        for owner in owners:
            for reference in owner.references if owner is not None else ():
                status = self._statuses.get(reference)
                stalled = status is not None and status.condition(ConditionType.STALLED) is not None
                if reference.kind == Kind.SECRET.value and stalled:
                    return reference
        return None

    def provider(self, integration: ResourceId | None) -> str:
        """Return a name of the provider's server, equal for all Integrations that use it."""
        resource = self._resources.get(integration) if integration is not None else None
        if resource is None:
            return integration.path if integration is not None else ""
        spec = resource.spec
        return f"{spec.get('type', '')}/{spec.get('apiUrl') or ''}"


def _of_status(status: ResourceStatus, causes: _Causes) -> Iterable[Signal]:
    identity = status.id
    integration = causes.integration(identity)
    scope = integration.path if integration is not None else identity.path
    if identity.kind == Kind.INTEGRATION.value:
        yield from _of_credential(status)
    blocked, drifted = status.condition(ConditionType.PLAN_BLOCKED), status.condition(ConditionType.DRIFTED)
    if blocked is not None:
        title = f"Changes of {shown(scope)} wait for an approval"
        yield _signal((Topic.PLAN_BLOCKED,), identity, f"blocked/{scope}", IncidentSeverity.WARNING, title, blocked)
    if drifted is not None:
        title = f"{shown(scope)} differs from its manifests"
        yield _signal((Topic.DRIFT,), identity, f"drift/{scope}", IncidentSeverity.WARNING, title, drifted)
    delivering = status.condition(ConditionType.DELIVERING)
    if delivering is not None and delivering.status is ConditionStatus.FALSE and delivering.reason != RETRYING:
        own = identity.kind == Kind.NOTIFICATION.value
        key, what = (identity.path, f"Messages of {identity}") if own else (scope, f"Deliveries of {shown(scope)}")
        yield _signal(
            (Topic.DELIVERY_FAILING,), identity, f"deliveries/{key}", IncidentSeverity.ERROR, f"{what} fail", delivering
        )
    if (failure := _failure(status)) is not None:
        yield _of_failure(identity, failure, integration, causes)


def _of_credential(status: ResourceStatus) -> Iterable[Signal]:
    identity, valid = status.id, status.condition(ConditionType.CREDENTIALS_VALID)
    if valid is None:
        return
    if valid.status is ConditionStatus.FALSE:
        topics, title = (Topic.CREDENTIAL_INVALID, Topic.SYNC_FAILED), f"The credential of {identity} does not work"
        yield _signal(topics, identity, f"credential/{identity.path}", IncidentSeverity.CRITICAL, title, valid)
    elif valid.reason == "Expiring":
        title = f"The credential of {identity} ends soon"
        yield _signal((Topic.CREDENTIAL_EXPIRING,), identity, f"expiry/{identity.path}", IncidentSeverity.WARNING, title, valid)


def _failure(status: ResourceStatus) -> Condition | None:
    """Return the condition that says that the resource cannot be synchronized."""
    stalled, reconciling = status.condition(ConditionType.STALLED), status.condition(ConditionType.RECONCILING)
    if stalled is not None and stalled.reason not in NOT_FAILED:
        return stalled
    if reconciling is not None and reconciling.reason in FAILING and status.attempts >= RETRIES:
        return reconciling
    return None


def _of_failure(identity: ResourceId, failure: Condition, integration: ResourceId | None, causes: _Causes) -> Signal:
    topics: tuple[Topic, ...] = (Topic.SYNC_FAILED,)
    refused = causes.refused(integration)
    if refused is not None and integration is not None:
        key, title = f"credential/{integration.path}", f"The credential of {integration} does not work"
        topics = (Topic.CREDENTIAL_INVALID, Topic.SYNC_FAILED)
        return _signal(topics, identity, key, IncidentSeverity.CRITICAL, title, refused)
    secret = causes.secret(identity)
    if failure.reason == "SecretUnavailable" and (secret is not None or identity.kind == Kind.SECRET.value):
        missing = secret or identity
        return _signal(topics, identity, f"secret/{missing.path}", IncidentSeverity.ERROR, f"{missing} cannot be read", failure)
    if failure.reason in UNREACHABLE and integration is not None:
        title = f"The provider of {integration} cannot be reached"
        return _signal(topics, identity, f"provider/{causes.provider(integration)}", IncidentSeverity.ERROR, title, failure)
    if integration is not None:
        title = f"{integration} cannot be synchronized" if identity == integration else f"Resources of {integration} fail"
        return _signal(topics, identity, f"sync/{integration.path}/{failure.reason}", IncidentSeverity.ERROR, title, failure)
    return _signal(topics, identity, f"sync/{identity.path}", IncidentSeverity.ERROR, f"{identity} fails", failure)


def _of_source(source: SourceFacts) -> Iterable[Signal]:
    if source.error is not None:
        yield Signal(
            (Topic.SYNC_FAILED,),
            "",
            _source_key(source),
            IncidentSeverity.ERROR,
            "The source of the manifests cannot be read; the last good revision stays in force",
            source.error.code,
            source.error.message[:TEXT],
        )
    invalid = [problem for problem in source.problems if problem.is_error]
    if invalid:
        first = "; ".join(f"{problem.location}: {problem.message}" for problem in invalid[:3])
        more = f" and {len(invalid) - 3} more" if len(invalid) > 3 else ""
        yield Signal(
            (Topic.SYNC_FAILED,),
            "",
            MANIFESTS_KEY,
            IncidentSeverity.ERROR,
            "Manifests are invalid; their last valid specs stay in force",
            invalid[0].code,
            f"{first}{more}"[:TEXT],
        )


def _source_key(source: SourceFacts) -> str:
    return f"{SOURCE_KEY}@{source.host}" if source.host else SOURCE_KEY


def _signal(  # noqa: PLR0917  called in this module only
    topics: tuple[Topic, ...], identity: ResourceId, key: str, severity: IncidentSeverity, title: str, condition: Condition
) -> Signal:
    return Signal(topics, identity.path, key[:900], severity, title, condition.reason, condition.message[:TEXT])


__all__ = ["MANIFESTS_KEY", "RETRYING", "SOURCE_KEY", "SignalSet", "SourceFacts", "signals_of"]
