"""Apps: credentials that come with one webhook for all that they may see, instead of one for each resource.

A driver with such credentials has a `reconciler.drivers.base.AppWebhooks`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from reconciler.model.objects import Marker
from reconciler.model.resources import SecretRef
from reconciler.model.secrets import SecretValue
from reconciler.model.values import Uid, uid_of

EVERY = "*"
"""The event type that means all events."""
_MARKER = re.compile(r"/hooks/apps/(?P<owner>[^/]+)/(?P<uid>[0-9a-f]{20})/?\Z")


@dataclass(frozen=True, slots=True)
class AppInstallation:
    """How one Integration uses an App."""

    identity: str
    """The App: host of its API and its id, as the Integration names it. Integrations with equal identities share the App."""
    account: str
    """The account that the App is installed on, in lower case."""
    number: str = ""
    """Id of the installation; empty if the Integration does not pin it."""
    secret: SecretRef | None = None
    """The webhook's secret; None: it is derived."""

    def uid(self, owner: str) -> Uid:
        """Return the key of the App in the URL of its webhook."""
        return uid_of(owner, "App", "", self.identity)


@dataclass(frozen=True, slots=True)
class AppTarget:
    """What an event source of an App asks for."""

    names: frozenset[str] = frozenset()
    """Repositories, in lower case."""
    patterns: tuple[str, ...] = ()
    """Globs of repositories, in lower case."""
    accounts: frozenset[str] = frozenset()
    """Accounts of which every event counts, in lower case."""
    events: frozenset[str] = frozenset()
    """Types of events; `EVERY` for all."""

    def asks_for(self, event_type: str) -> bool:
        """Whether events of this type count."""
        return EVERY in self.events or event_type.casefold() in self.events


@dataclass(frozen=True, slots=True)
class AppEvent:
    """Where an event of an App comes from, and what it says about the App. Empty: the payload does not say."""

    account: str = ""
    installation: str = ""
    place: str = ""
    """The repository, in lower case."""
    place_id: str = ""
    """Its id, which stays when it is renamed or transferred."""
    former: str = ""
    """Its name before this event."""
    about_app: bool = False
    """Whether it is about the App or its webhook, and not about a repository."""
    changes_reach: bool = False
    """Whether it changes what the App may do, or which repositories it sees and by which name."""


@dataclass(frozen=True, slots=True)
class AppWish:
    """An App to register."""

    web_root: str
    """The web site of the provider, without a trailing slash: ``https://github.com``."""
    account: str
    organization: bool
    name: str
    homepage: str
    hook_url: str
    """Where the webhook delivers until the daemon sets its URL, which depends on the id of the App."""
    redirect_url: str
    permissions: Mapping[str, str]
    """Permission → level, as manifests name them."""
    events: frozenset[str]
    """Types of events; `EVERY` for all that the permissions allow."""


@dataclass(frozen=True, slots=True)
class AppForm:
    """The form that a browser sends to the provider: where, and its fields."""

    url: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RegisteredApp:
    """A new App. Its secrets are shown once, and never again."""

    number: str
    client_id: str
    slug: str
    owner: str
    """The account that it belongs to; empty if the provider does not say."""
    install_url: str
    settings_url: str
    key: SecretValue
    webhook_secret: SecretValue | None


@dataclass(frozen=True, slots=True)
class AppInstalled:
    """An installation of an App on an account."""

    number: str
    account: str
    repositories: str
    """``all`` or ``selected``."""
    suspended_at: str
    url: str


@dataclass(frozen=True, slots=True)
class AppGrant:
    """What manifests need of an App against what it has. Names of permissions are the provider's."""

    needed: Mapping[str, str]
    requested: Mapping[str, str]
    """By the App, which each installation must approve."""
    granted: Mapping[str, str]
    missing: tuple[str, ...]
    """Each as ``name: level``, with the page where a person grants it."""
    surplus: tuple[str, ...]
    events_needed: tuple[str, ...]
    events: tuple[str, ...]
    """What the App is subscribed to and its installation gets."""
    events_missing: tuple[str, ...]
    """Each with the page where a person subscribes the App."""
    events_surplus: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AppWebhookState:
    """The webhook of an App as the provider shows it. ``problems``: what differs from what it should be."""

    url: str
    content_type: str
    verifies_tls: bool
    has_secret: bool
    expected_url: str
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AppReport:
    """An App, its installation, its grant and its webhook."""

    slug: str
    url: str
    settings_url: str
    installation: AppInstalled
    grant: AppGrant
    webhook: AppWebhookState


def app_hook_url(public_url: str, owner: str, uid: str, key_id: str) -> str:
    """Return the URL of the webhook of an App: its path is the marker (`app_hook_marker`)."""
    return f"{public_url.rstrip('/')}/hooks/apps/{owner}/{uid}?key={key_id}"


def app_hook_marker(url: str) -> Marker | None:
    """Return the marker in the URL of an App's webhook; host and query do not matter. None for any other URL."""
    try:
        match = _MARKER.search(urlsplit(url).path)
    except ValueError:
        return None
    return Marker(match["owner"], Uid(match["uid"])) if match else None


__all__ = [
    "EVERY",
    "AppEvent",
    "AppForm",
    "AppGrant",
    "AppInstallation",
    "AppInstalled",
    "AppReport",
    "AppTarget",
    "AppWebhookState",
    "AppWish",
    "RegisteredApp",
    "app_hook_marker",
    "app_hook_url",
]
