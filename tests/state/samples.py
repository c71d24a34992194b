"""Values to store."""

from reconciler.model.objects import Intent, Marker, RecordedObject, Scope
from reconciler.model.records import AuditEntry
from reconciler.model.resources import IgnoreRule, Lifecycle, ResourceId, Suspension

GITHUB = ResourceId("Integration", "default", "github")
BUDDY = ResourceId("Integration", "default", "buddy")
SOURCE = ResourceId("EventSource", "default", "payments")


def recorded(number: int = 1, *, integration: ResourceId = GITHUB) -> RecordedObject:
    return RecordedObject(
        address=f"EventSource/default/payments#github/repository-webhook[acme/r{number}]",
        resource=SOURCE,
        integration=integration,
        scope=Scope("github/repository-webhook", f"acme/r{number}"),
        external_id=str(100 + number),
        natural_key="https://h/x",
        marker=Marker("team-a", "ab12"),
        attributes={"events": ["push"], "config": {"url": "https://h/x"}},
        fingerprints={"/config/secret": "hmac:1"},
        digest="sha256:1",
        lifecycle=Lifecycle(
            prevent_destroy=True, ignore=(IgnoreRule("/active", "2030-01-01T00:00:00Z"),), suspend=Suspension("why")
        ),
        updated_at="2026-01-01T00:00:00Z",
        url="https://github.com/x",
        applied_at=12.5,
        revision="main@sha1:1",
        repairs=(1.0, 2.0),
        depends_on=("other",),
    )


def intent(number: int = 1, *, integration: ResourceId = GITHUB, at: float = 1.0) -> Intent:
    one = recorded(number)
    return Intent(
        id=f"intent-{number}",
        address=one.address,
        integration=integration,
        action="create",
        scope=one.scope,
        marker=one.marker,
        natural_key=one.natural_key,
        digest=one.digest,
        created_at=at,
        fingerprints={"/config/secret": "hmac:1"},
    )


def entry(verb: str = "create", **more: str) -> AuditEntry:
    return AuditEntry(at=1.5, actor="daemon:test:1", verb=verb, resource=SOURCE.path, **more)  # type: ignore[arg-type]
