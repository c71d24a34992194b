"""Plans of manifests against manifests: without credentials, state or observations. Reviews and ``plan --base`` use them.

Write-only values appear as references, and the digests of such plans approve nothing: no secret may be near untrusted manifests.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.config.settings import Config
from reconciler.drivers.http.network import refusal_of_literals
from reconciler.drivers.registry import driver_for
from reconciler.engine.app_hooks import declaring, webhook_owners
from reconciler.engine.compile import compile_offline, integration_of
from reconciler.engine.read_errors import problem_of
from reconciler.engine.revision import kept_of, unread_in
from reconciler.manifests import SourceFile, load
from reconciler.manifests.kinds import IntegrationSpec
from reconciler.model.errors import NotImplementedYet, Problem, ReconcilerError
from reconciler.model.objects import ManagedObject
from reconciler.model.plan import Manifests, PlanSet
from reconciler.model.resources import Desired, Resource
from reconciler.planning.compare import base_plan as compare
from reconciler.planning.inputs import PlanLimits
from reconciler.planning.policy import is_suspended
from reconciler.planning.resources import resource_changes
from reconciler.source.base import FileData, Revision, Snapshot, Source

PLACEHOLDER_URL = "https://public-url.invalid"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The plan of one set of manifests against another."""

    plan: PlanSet
    problems: tuple[Problem, ...]
    unread: tuple[Problem, ...] = ()
    """What could not be compiled now and could be before."""

    @property
    def result(self) -> tuple[PlanSet, tuple[Problem, ...]]:
        """The plan and its problems."""
        return self.plan, self.problems


async def load_offline(source: Source, revision: Revision, config: Config) -> Desired:
    """Read and validate one revision. Raises `SourceError` if it is refused as a whole."""
    snapshot = await source.snapshot(revision)
    return parse_offline(await source.read(snapshot), snapshot, config)


def parse_offline(files: Iterable[FileData], snapshot: Snapshot, config: Config) -> Desired:
    """Validate the files of a snapshot. Pure; it takes a second for some thousand manifests."""
    rows = [SourceFile(path, blob, data) for path, blob, data in files]
    refused = refusal_of_literals(config.network.allow)
    desired = load(rows, revision=snapshot.revision.id, sandbox=config.sandbox, refused=refused)
    return dataclasses.replace(desired, unread=unread_in(snapshot))


def compared(before: Iterable[Resource], after: Desired, config: Config) -> Comparison:
    """Compare. A resource that is invalid now, or that an unread file hides, keeps its manifest and is reported, as in the daemon."""
    old = {resource.id: resource for resource in before}
    kept, problems = kept_of(after, old.values())
    new, now = {**after.by_id(), **kept}, time.time()
    (former, former_unread), (desired, unread) = (compile_desired(rows.values(), config) for rows in (old, new))
    suspended = frozenset(identity for identity, resource in new.items() if is_suspended(resource.lifecycle, now))
    allowed = config.reconcile.limits
    limits = PlanLimits(allowed.delete_percent, allowed.delete_minimum, allowed.delete_max)
    plan = dataclasses.replace(
        compare(former, desired, revision=after.revision, suspended=suspended, limits=limits),
        resources=resource_changes(old, new),
        unread=tuple(dict.fromkeys((*unread, *former_unread))),
        manifests=Manifests(old, new),
    )
    known = {(problem.code, problem.message) for problem in former_unread}
    fresh = tuple(problem for problem in unread if (problem.code, problem.message) not in known)
    return Comparison(plan, (*after.problems, *problems), fresh)


def compile_desired(resources: Iterable[Resource], config: Config) -> tuple[tuple[ManagedObject, ...], tuple[Problem, ...]]:
    """Return the managed objects of ``resources``, with names instead of ids and references instead of fingerprints.

    The second value has a problem for each resource that could not be compiled: the plan does not cover it.
    """
    resources = tuple(resources)
    by_id = {resource.id: resource for resource in resources}
    objects: list[ManagedObject] = []
    unread: list[Problem] = []
    used = {integration for resource in resources if (integration := integration_of(resource)) is not None}
    for integration in sorted({*used, *webhook_owners(resources).values()}):
        manifest = by_id.get(integration)
        driver = driver_for(manifest.typed(IntegrationSpec).type) if manifest is not None else None
        if manifest is None or driver is None:
            unread.append(problem_of(integration, NotImplementedYet("this version has no driver for it"), by_id))
            continue
        try:
            connection = driver.connect(manifest, manifest.secret_refs("/auth"))
        except ReconcilerError as error:
            unread.append(problem_of(integration, error, by_id))
            continue
        compiled = compile_offline(
            driver,
            connection,
            declaring(integration, by_id),
            owner=config.owner,
            public_url=config.server.public_url or PLACEHOLDER_URL,
        )
        objects.extend(compiled.objects)
        unread += [problem_of(resource, reason, by_id) for resource, reason in compiled.stalled.items()]
    return tuple(objects), tuple(unread)
