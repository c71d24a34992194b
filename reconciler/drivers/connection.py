"""A connection to a provider: what an Integration declares, the client that is bound to it, and what signs the client's requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from reconciler.drivers.apps import AppInstallation, app_hook_url
from reconciler.drivers.auth import ApiResponse, AuthRequest
from reconciler.model.resources import ResourceId, SecretRef, ValueRef
from reconciler.model.values import Address, Fingerprint, JsonObject


@dataclass(frozen=True, slots=True)
class Connection:
    """The address of an integration and its authentication: only references to secrets, so it may be stored.

    The state keeps it until the last tombstone of the integration is gone.
    """

    integration: ResourceId
    provider: str
    url: str
    api_url: str
    """Effective API root without a trailing slash (``https://api.github.com``)."""
    account: str
    """Account taken from ``url``: the GitHub owner, the Semaphore organization; empty if there is none."""
    auth: JsonObject
    """``spec.auth`` in canonical form: ``{"use": "token", "token": {"valueFrom": {"secret": {"name", "key"}}}}``."""
    secrets: Mapping[str, SecretRef] = field(default_factory=dict)
    """The reference of each credential, by JSON pointer into ``auth``: ``{"/token": SecretRef(...)}``."""

    @property
    def credential_id(self) -> str:
        """The key of the shared rate budget: provider, API root and the credential's reference; for an App also the account.

        Each installation of an App has a rate limit of its own (docs.github.com, "Rate limits for the REST API").
        """
        refs = ",".join(f"{pointer}={ref}" for pointer, ref in sorted(self.secrets.items()))
        own = f"|{self.account.lower()}" if self.auth.get("use") == "github-app" else ""
        return f"{self.provider}|{self.api_url}|{refs}{own}"


@dataclass(frozen=True, slots=True)
class CompileContext:
    """The inputs of a pure compiler besides the resource."""

    owner: str
    public_url: str
    """``server.publicUrl`` without a trailing slash; the marker is ``<public_url>/hooks/<owner>/<uid>``."""
    key_id: str
    """Id of the master key: the ``key`` query parameter of the marker URL."""
    connection: Connection
    facts: JsonObject
    """The result of `Driver.resolve`: JSON only."""
    fingerprint: Callable[[Address, str, ValueRef], Fingerprint]
    """(address, pointer, reference) → fingerprint of the referenced value; offline a fingerprint of the reference."""

    def hook_url(self, resource: ResourceId) -> str:
        """Return the marker URL of ``resource``: the target of its events."""
        return f"{self.public_url}/hooks/{self.owner}/{resource.uid(self.owner)}?key={self.key_id}"

    def app_hook_url(self, app: AppInstallation) -> str:
        """Return the URL of the webhook of ``app``, which is its marker."""
        return app_hook_url(self.public_url, self.owner, app.uid(self.owner), self.key_id)


class Api(Protocol):
    """An authenticated client bound to one `Connection` (see `reconciler.drivers.http.client`)."""

    @property
    def connection(self) -> Connection:
        """The connection that it is bound to."""

    @property
    def authenticator(self) -> Authenticator:
        """What signs its requests: some can tell more about the credential than an answer of the API."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        ok: frozenset[int] = frozenset(),
    ) -> ApiResponse:
        """Send one request. ``path`` is relative to the API root, or an absolute URL on the same host (a Link).

        ``QUERY`` is a POST that only reads (GraphQL): it is retried like a GET, and allowed in a read-only session.
        Returns any 2xx and 304, and every status in ``ok``; for any other, raises the typed error of the driver's `Driver.classify`.
        Reads are retried locally a bounded number of times on transient failures; writes never are: after a write was sent, a
        timeout, reset or 5xx is `OutcomeUnknown`.
        """

    async def download(self, path: str) -> ApiResponse:
        """Return the target of the API's redirect for ``path`` (a log, an archive). One redirect is followed, over https to a public
        address or on the API's own host, and without the credential. An answer that is not a redirect is returned unchanged.
        """


class Authenticator(Protocol):
    """Adds the credential to a request. Never logs; requests the narrowest token that is enough."""

    async def authorize(self, request: AuthRequest) -> None:
        """Add the authentication headers to ``request.headers``. Raises typed errors if there is no credential to send."""

    async def refresh(self) -> bool:
        """After a 401: get a new token (or read the secret again); False if there is nothing to refresh."""


@runtime_checkable
class ReadsAnswers(Protocol):
    """An authenticator that knows what answers of its provider's services mean beyond their status."""

    def refused(self, status: int, headers: Mapping[str, str], body: object) -> str:
        """Return how a service names the refusal of the credential itself; empty for any other answer. Pure."""

    def failure(self, headers: Mapping[str, str]) -> str:
        """Return how a service names a failure of the work in an answer with a successful status; empty if it names none. Pure."""


@runtime_checkable
class RevokingAuthenticator(Protocol):
    """An authenticator whose short-lived credentials can be revoked when the process ends."""

    async def close(self) -> None:
        """Revoke what is still valid. Never raises for a provider that does not answer: what is left ends by itself."""


__all__ = ["Api", "Authenticator", "CompileContext", "Connection", "ReadsAnswers", "RevokingAuthenticator"]
