"""Makes the sink of a Notification: reads its Secrets, and binds a client to the origin of its URL."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.credentials.backends import SecretResolver
from reconciler.drivers.builtin.urls import PROVIDER, origin_of, path_of
from reconciler.drivers.connection import Connection
from reconciler.drivers.http.transport import tls_context
from reconciler.engine.current import Current
from reconciler.manifests.notification_spec import NotificationSpec, SinkSpec, StatusSinkSpec
from reconciler.model.errors import (
    AddressRefused,
    Declined,
    NotImplementedYet,
    ProviderError,
    ReconcilerError,
    RetryKind,
    ValidationFailed,
)
from reconciler.model.resources import Kind, Resource
from reconciler.model.secrets import SecretValue
from reconciler.notifications.sinks import alertmanager, email, pagerduty, slack, teams, webhook
from reconciler.notifications.sinks.base import HttpEndpoint, Sink
from reconciler.notifications.sinks.commit_status import CommitStatus, repository_of

SECRET_PATH = 12
"""Characters from which a path is long enough to hold a credential; a shorter one would be masked in ordinary text too."""
COMMIT_SINK = StatusSinkSpec
"""The sink that shows the state of a revision."""


def sink_name(spec: SinkSpec) -> str:
    """Return the key of the sink in the manifest."""
    return next(key for key, value in spec.named().items() if value is not None)


def follows_revision(resource: Resource) -> bool:
    """Whether the sink of ``resource`` shows the state of a revision, and no incidents."""
    return isinstance(resource.typed(NotificationSpec).sink.chosen(), COMMIT_SINK)


@dataclass(frozen=True, slots=True)
class SinkFactory:
    """Makes sinks, each for one message: a Secret may have changed since the last."""

    current: Current
    secrets: SecretResolver

    async def sink(self, resource: Resource) -> Sink:
        """Return the sink of ``resource``. Raises `ReconcilerError` if a Secret is missing or a URL may not be called."""
        await self.secrets.prepare(resource.secret_refs().values())
        spec = resource.typed(NotificationSpec).sink
        context = self.current.context
        if spec.slack is not None:
            return await self._slack(resource, spec.slack.url or slack.API)
        if spec.teams is not None:
            return teams.TeamsWorkflow(await self._secret_url(resource, "teams/workflow", "Teams", teams.HOSTS))
        if spec.webhook is not None:
            endpoint = await self._endpoint(resource, spec.webhook.url, "the webhook")
            return webhook.SignedWebhook(endpoint, self._webhook_key(resource), context.owner, context.clock)
        if spec.pagerduty is not None:
            url = f"{(spec.pagerduty.url or pagerduty.API).rstrip('/')}/v2/enqueue"
            endpoint = await self._endpoint(resource, url, "PagerDuty", pagerduty.HOSTS)
            return pagerduty.Pagerduty(endpoint, self._value(resource, "pagerduty/routingKey"), context.owner)
        if spec.alertmanager is not None:
            url = f"{spec.alertmanager.url.rstrip('/')}/api/v2/alerts"
            endpoint = await self._endpoint(resource, url, "Alertmanager")
            return alertmanager.Alertmanager(endpoint, context.owner, context.clock)
        if spec.email is not None:
            password = self._value(resource, "email/smtp/password") if spec.email.smtp.password is not None else None
            tls = tls_context(context.config.network.ca_bundle or None)
            return email.Mail(spec.email, password, tls, context.session.allow, context.owner)
        return await self._commit_status(resource, spec)

    async def _slack(self, resource: Resource, root: str) -> Sink:
        spec = resource.typed(NotificationSpec).sink.slack
        if spec is None or spec.token is None:
            return slack.SlackHook(await self._secret_url(resource, "slack/webhook", "Slack", slack.HOSTS))
        endpoint = await self._endpoint(resource, root.rstrip("/"), "Slack", slack.HOSTS)
        token = self._value(resource, "slack/token").reveal().strip()
        return slack.SlackBot(endpoint.api, endpoint.path.rstrip("/"), token, spec.channel or "")

    def _value(self, resource: Resource, pointer: str) -> SecretValue:
        return self.secrets.read(resource.secret_refs(f"/sink/{pointer}")[""])

    def _webhook_key(self, resource: Resource) -> SecretValue:
        spec = resource.typed(NotificationSpec).sink.webhook
        if spec is not None and spec.key is not None:
            return self._value(resource, "webhook/key")
        context = self.current.context
        return context.keyring.standard_webhooks_secret(context.owner, resource.id.uid(context.owner), 0)

    async def _secret_url(self, resource: Resource, pointer: str, name: str, hosts: tuple[str, ...]) -> HttpEndpoint:
        """Return the endpoint of a URL that contains its credential: path and query are masked wherever they are written."""
        url = self._value(resource, pointer).reveal().strip()
        if url.partition("?")[0].partition("://")[2].partition("/")[0].endswith(teams.RETIRED):
            raise ValidationFailed(
                f"{name}: the URL is that of a retired connector",
                code="RC8107",
                hint='Make a Workflow in Teams ("Send webhook alerts to a channel") and store its URL.',
            )
        try:
            path = path_of(url)
        except ValidationFailed as error:
            raise ValidationFailed(
                f"{name}: {error.message}", code="RC8107", hint="The Secret must hold the whole URL."
            ) from None
        for part in (path, path.partition("?")[0]):
            if len(part) >= SECRET_PATH:
                self.current.context.redactor.add(part)
        return await self._endpoint(resource, url, name, hosts)

    async def _endpoint(self, resource: Resource, url: str, name: str, hosts: tuple[str, ...] = ()) -> HttpEndpoint:
        origin = origin_of(url)
        # The references make the rate budget that of this credential: a refusal of one Notification stops no other.
        references = {f"{resource.id.path}{pointer}": ref for pointer, ref in resource.secret_refs().items()}
        connection = Connection(resource.id, PROVIDER, origin, origin, "", {"use": "none"}, references)
        return HttpEndpoint(await self.current.local_client(connection, hosts=hosts), path_of(url), name)

    async def _commit_status(self, resource: Resource, spec: SinkSpec) -> Sink:
        chosen = spec.chosen()
        if not isinstance(chosen, COMMIT_SINK):
            raise NotImplementedYet(f"{resource.id} has a sink that this version does not know")
        integration = next((ref for ref in resource.references if ref.kind == Kind.INTEGRATION.value), None)
        if integration is None:
            raise ReconcilerError(f"{resource.id} names no Integration", code="RC6011")
        client = await self.current.client(integration)
        if client.driver.reporter is None:
            raise NotImplementedYet(f"{integration} does not accept commit statuses")
        repository = repository_of(self.current.context.config.source.url)
        return CommitStatus(client.driver.reporter, client.api, repository, chosen.context, sink_name(spec))


def is_final(error: ReconcilerError) -> bool:
    """Whether another attempt with the same message fails too: the service refused this message, and not the sender."""
    if isinstance(error, AddressRefused | Declined) or not isinstance(error, ProviderError):
        return False
    return error.retry is RetryKind.SPEC and error.code != "RC8107"


__all__ = ["COMMIT_SINK", "SinkFactory", "follows_revision", "is_final", "sink_name"]
