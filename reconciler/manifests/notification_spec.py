"""The spec of a Notification; see `reconciler.manifests.kinds`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

import msgspec

from reconciler.model.incidents import IncidentSeverity, Topic
from reconciler.model.resources import Kind, Resource
from reconciler.model.specs import Credential, Reference, Spec


class ResourcesSpec(Spec, frozen=True):
    kinds: tuple[Kind, ...] = ()
    names: tuple[str, ...] = ()
    canvases: tuple[str, ...] = ()
    labels: Mapping[str, str] = {}


class SlackSpec(Spec, frozen=True):
    token: Credential | None = None
    channel: str | None = None
    webhook: Credential | None = None
    url: str | None = None


class TeamsSpec(Spec, frozen=True):
    workflow: Credential


class SinkWebhookSpec(Spec, frozen=True):
    url: str
    key: Credential | None = None


class SmtpSpec(Spec, frozen=True):
    host: str
    port: int | None = None
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    user: str | None = None
    password: Credential | None = None


class EmailSpec(Spec, frozen=True):
    smtp: SmtpSpec
    sender: str = msgspec.field(name="from")
    to: tuple[str, ...]


class PagerdutySpec(Spec, frozen=True):
    routing_key: Credential
    url: str | None = None


class AlertmanagerSpec(Spec, frozen=True):
    url: str


class StatusSinkSpec(Spec, frozen=True):
    integration: Reference
    context: str = "reconciler/sync"


class SinkSpec(Spec, frozen=True):
    slack: SlackSpec | None = None
    teams: TeamsSpec | None = None
    webhook: SinkWebhookSpec | None = None
    email: EmailSpec | None = None
    pagerduty: PagerdutySpec | None = None
    alertmanager: AlertmanagerSpec | None = None
    github_commit_status: StatusSinkSpec | None = msgspec.field(default=None, name="github-commit-status")

    def named(self) -> Mapping[str, Spec | None]:
        """Return the sinks by their keys in the manifest."""
        return {each.encode_name: getattr(self, each.name) for each in msgspec.structs.fields(self)}

    def chosen(self) -> Spec | None:
        """Return the one that is given."""
        return next((sink for sink in self.named().values() if sink is not None), None)


class NotificationSpec(Spec, frozen=True):
    sink: SinkSpec
    on: tuple[Topic, ...] = ()
    resources: ResourcesSpec | None = None
    severity: IncidentSeverity = IncidentSeverity.INFO


_PLACES: Mapping[type[Spec], tuple[str, ...]] = {
    SlackSpec: ("channel", "webhook", "url"),
    TeamsSpec: ("workflow",),
    SinkWebhookSpec: ("url",),
    EmailSpec: ("sender", "to"),
    PagerdutySpec: ("routing_key", "url"),
    AlertmanagerSpec: ("url",),
    StatusSinkSpec: ("integration", "context"),
}
"""The fields that say where a message is shown. The others say how it gets there."""
_KEYS = frozenset({"/webhook", "/workflow", "/routingKey"})
"""Pointers of the references to Secrets that are places."""


def destination_of(notification: Resource) -> str:
    """Return a digest of where the messages of ``notification`` are shown: where it differs, an open incident is not shown yet."""
    spec = notification.typed(NotificationSpec).sink
    name, sink = next((key, value) for key, value in spec.named().items() if value is not None)
    places = [getattr(sink, place) for place in _PLACES[type(sink)]]
    secrets = [str(ref) for pointer, ref in sorted(notification.secret_refs(f"/sink/{name}").items()) if pointer in _KEYS]
    return hashlib.sha256(msgspec.json.encode([name, places, secrets])).hexdigest()[:16]
