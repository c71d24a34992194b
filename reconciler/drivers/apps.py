"""Apps: credentials that come with one webhook for all that they may see, instead of one for each resource.

A driver with such credentials has a `reconciler.drivers.base.AppWebhooks`.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.resources import SecretRef
from reconciler.model.values import Uid, uid_of

EVERY = "*"
"""The event type that means all events."""


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


__all__ = ["EVERY", "AppEvent", "AppInstallation", "AppTarget"]
