"""Tries the credential of an integration with what its users need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.config.settings import Config
from reconciler.drivers.pulls import pulls_of
from reconciler.engine.app_hooks import needs_of as app_needs
from reconciler.engine.connections import Client
from reconciler.engine.revision import ActiveRevision
from reconciler.model.errors import AuthFailed, NotFound, PermissionDenied, ProviderProtocolError, ValidationFailed
from reconciler.model.resources import Kind, ResourceId
from reconciler.model.status import CredentialReport

INVALID = "the provider does not accept the credential"
_LEVELS = ("read", "write", "admin")
_QUESTIONS = ("valid", "identity", "granted", "missing", "expiresAt")


async def check_credential(link: Client, live: ActiveRevision, config: Config) -> CredentialReport:
    """Check the credential. Raises `AuthFailed` for one that is refused or invalid, so that no further call is made with it.

    An answer that says nothing about the credential leaves all questions open: it may not read its own rights, or the server has no
    such call. Errors of later calls show its rights then.
    """
    try:
        report = await link.driver.check(link.api, needs_of(link, live, config))
    except (NotFound, PermissionDenied, ValidationFailed, ProviderProtocolError) as error:
        message = f"not checked: {error.message}"
        return CredentialReport(valid=True, message=message, unknown=dict.fromkeys(_QUESTIONS, message))
    if not report.valid:
        raise AuthFailed(report.message or INVALID)
    return report


def needs_of(link: Client, live: ActiveRevision, config: Config) -> Mapping[str, str]:
    """Return the declared permissions, those of every resource that names the integration, and of reviews; the highest levels."""
    integration = link.connection.integration
    resource = live.resources.get(integration)
    rows: list[Mapping[str, str]] = (
        [{str(k): str(v) for k, v in resource.spec.get("permissions", {}).items()}] if resource is not None else []
    )
    rows += [app_needs(link, user) for user in live.resources.values() if integration in user.references]
    pulls = pulls_of(link.driver)
    if pulls is not None and review_integration(config) == integration:
        rows.append(pulls.needs(checks=pulls.has_checks(link.connection)))
    return widest(rows)


def review_integration(config: Config) -> ResourceId | None:
    """Return the Integration of the reviews; None if nothing is reviewed."""
    name, _, canvas = config.review.integration.partition("@")
    return ResourceId(Kind.INTEGRATION.value, canvas or "default", name) if name else None


def widest(rows: Iterable[Mapping[str, str]]) -> Mapping[str, str]:
    """Return the permissions of all ``rows``; of several levels the highest."""
    needs: dict[str, str] = {}
    for row in rows:
        for name, level in row.items():
            if name not in needs or _rank(level) > _rank(needs[name]):
                needs[name] = level
    return needs


def _rank(level: str) -> int:
    return _LEVELS.index(level) if level in _LEVELS else len(_LEVELS)


__all__ = ["INVALID", "check_credential", "needs_of", "review_integration", "widest"]
