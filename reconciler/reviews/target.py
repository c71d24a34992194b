"""What is reviewed: the repository of the configuration, through the client of its Integration."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from reconciler.config.settings import Config
from reconciler.drivers.http.client import ApiClient
from reconciler.drivers.pulls import PullRequests, pulls_of
from reconciler.engine.connections import Client
from reconciler.engine.credential_check import review_integration
from reconciler.engine.current import Current
from reconciler.model.errors import ReconcilerError
from reconciler.model.reviews import ReviewState
from reconciler.source.mirror import RemoteSource


class ReviewImpossible(ReconcilerError):
    """The configuration asks for reviews that cannot be made."""

    code = "RC8201"


@dataclass(frozen=True, slots=True)
class ReviewTarget:
    """The repository whose pull requests are reviewed, and the way to it."""

    repository: str
    """``owner/name`` in lower case."""
    pulls: PullRequests
    client: Client
    api: ApiClient

    @property
    def has_checks(self) -> bool:
        """Whether checks can be written; otherwise commit statuses are."""
        return self.pulls.has_checks(self.client.connection)


def repository_name(config: Config) -> str:
    """Return the repository as ``OWNER/NAME``, from the configuration or the last two parts of the source's URL."""
    if config.review.repository:
        return config.review.repository
    url = config.source.url
    path = urlsplit(url).path if "://" in url else url.partition(":")[2]
    return "/".join(path.removesuffix("/").removesuffix(".git").split("/")[-2:]).strip("/")


def review_url(config: Config, state: ReviewState) -> str:
    """Return the address of the page of a review; empty without `server.publicUrl`."""
    root = config.server.public_url.rstrip("/")
    return f"{root}/reviews/{state.number or state.head}" if root else ""


async def open_target(current: Current) -> ReviewTarget:
    """Return the target. Raises `ReviewImpossible`, and the error of an Integration that cannot be connected."""
    config = current.context.config
    identity = review_integration(config)
    if identity is None:
        raise ReviewImpossible("pull requests are not reviewed here", hint="Set `review.integration` in the configuration.")
    if identity not in current.active.resources:
        raise ReviewImpossible(
            f"review.integration: there is no {identity} in the active revision",
            hint="Declare the Integration in the manifests, or correct `review.integration`.",
        )
    client = await current.client(identity)
    pulls = pulls_of(client.driver)
    if pulls is None:
        raise ReviewImpossible(
            f"review.integration: {identity} is not a code host whose pull requests can be reviewed",
            hint="Name an Integration of the code host that has the repository of the manifests.",
        )
    repository = pulls.key(repository_name(config), client.connection.account)
    return ReviewTarget(repository, pulls, client, client.api)


def remote_source(source: object) -> RemoteSource:
    """Return the source of the manifests. Raises `ReviewImpossible` for a folder: it has no heads of pull requests."""
    if not isinstance(source, RemoteSource):
        raise ReviewImpossible(
            "pull requests can be reviewed only if `source.url` is the URL of their repository",
            hint="Set `source.url` to the https or ssh URL of the repository.",
        )
    return source


__all__ = ["ReviewImpossible", "ReviewTarget", "open_target", "remote_source", "repository_name", "review_url"]
