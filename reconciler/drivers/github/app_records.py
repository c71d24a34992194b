"""GitHub's answers about an App and its installations, as far as the driver reads them (docs.github.com, "REST API endpoints for GitHub Apps")."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Installation(msgspec.Struct, frozen=True):
    """An App on an account."""

    id: int
    permissions: Mapping[str, str] = {}
    repository_selection: str = "all"
    suspended_at: str | None = None
    events: tuple[str, ...] = ()
    app_slug: str = ""
    html_url: str = ""


class AppOwner(msgspec.Struct, frozen=True):
    """The account that an App belongs to."""

    login: str
    type: str = "User"


class GitHubApp(msgspec.Struct, frozen=True):
    """``GET /app``."""

    slug: str
    id: int = 0
    client_id: str = ""
    owner: AppOwner | None = None
    permissions: Mapping[str, str] = {}
    events: tuple[str, ...] = ()
    html_url: str = ""

    @property
    def settings_url(self) -> str:
        """The page where the App's owner changes its permissions; its public page if GitHub does not name the owner."""
        web, _, _ = self.html_url.partition("/apps/")
        if self.owner is None or not web:
            return self.html_url or self.slug
        organization = f"/organizations/{self.owner.login}" if self.owner.type == "Organization" else ""
        return f"{web}{organization}/settings/apps/{self.slug}/permissions"


__all__ = ["AppOwner", "GitHubApp", "Installation"]
