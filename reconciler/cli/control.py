"""Verbs that act on a running daemon through its admin socket or, without one, take the lock and act themselves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import TypeVar

from reconciler.cli.daemon_client import Request, answer_of, operations_of
from reconciler.cli.options import (
    AdoptOptions,
    ApproveOptions,
    ForgetOptions,
    ReconcileOptions,
    ResourceOptions,
    SuspendOptions,
)
from reconciler.cli.output import agreed
from reconciler.cli.progress import waiting
from reconciler.cli.session import ask_daemon, configuration
from reconciler.cli.sink import out
from reconciler.cli.tables import name_of
from reconciler.config.settings import Config
from reconciler.model.exit_codes import EXIT_ERROR, EXIT_OK
from reconciler.model.resources import ResourceId
from reconciler.model.views import (
    AdoptedResource,
    ApprovedPlan,
    ForgottenResource,
    ReconciledResource,
    ResumedResource,
    SuspendedResource,
)
from reconciler.planning.approval import Approval

T = TypeVar("T")
ADOPT_S = 120.0


def ask(config: Config, request: Request, kind: type[T], *, timeout_s: float = 60.0) -> T:
    """Return the answer of the daemon; without one, of this process, which locks the state and does the work."""
    with waiting("waiting for the daemon"):
        answer = ask_daemon(config, request, timeout_s=timeout_s)
    return answer_of(answer if answer is not None else asyncio.run(_alone(config, request)), kind).view


async def _alone(config: Config, request: Request) -> Mapping[str, object]:
    from reconciler.daemon.session import Options, open_session

    async with open_session(config, Options(create=False)) as session:
        engine = session.engine
        approved: dict[ResourceId, Approval] = {}

        async def trigger(integrations: tuple[ResourceId, ...]) -> None:
            if request["verb"] != "approve_plan":
                await engine.run_all(only=integrations, explicit=True)
                return
            for integration in integrations:  # only the blocked set was reviewed, not the other pending changes
                await engine.slice(integration, explicit=True, approval=approved[integration])
            await engine.finish_pass()

        await engine.sync()
        if request["verb"] == "approve_plan":  # only planning shows which sets are blocked
            for integration in await engine.integrations():
                prepared = await engine.prepare(integration)
                engine.current.view.results[integration], approved[integration] = (
                    prepared.found(),
                    prepared.approval(blocked=True),
                )
        return await operations_of(session, trigger).handle(request, f"uid:{os.getuid()}")


def approve_set(options: ApproveOptions) -> int:
    """Approve blocked changes; ``id`` is their digest."""
    answer = ask(configuration(options), {"verb": "approve_plan", "digest": options.id}, ApprovedPlan)
    out(f"approved {options.id} on {name_of(answer.integration)}; it is being applied")
    return EXIT_OK


def suspend(options: SuspendOptions) -> int:
    """Stop writes for a resource."""
    request = {"verb": "suspend", "resource": options.resource, "reason": options.reason, "until": options.until}
    answer = ask(configuration(options), request, SuspendedResource)
    end = f" until {answer.until}" if answer.until else f"; end it with: reconciler resume {options.resource}"
    out(f"suspended {name_of(answer.resource)}{end}")
    return EXIT_OK


def resume(options: ResourceOptions) -> int:
    """End a suspension."""
    answer = ask(configuration(options), {"verb": "resume", "resource": options.resource}, ResumedResource)
    out(f"resumed {name_of(answer.resource)}")
    return EXIT_OK


def reconcile(options: ReconcileOptions) -> int:
    """Reconcile a resource now."""
    request = {"verb": "reconcile", "resource": options.resource, "wait": options.wait, "timeout": options.timeout}
    answer = ask(configuration(options), request, ReconciledResource, timeout_s=options.timeout + 5)
    if not options.wait:
        out(f"requested a reconcile of {name_of(answer.resource)}")
        return EXIT_OK
    out(f"{name_of(answer.resource)}: Ready={answer.ready} {answer.reason} {answer.message}".rstrip())
    return EXIT_OK if answer.ready == "True" else EXIT_ERROR


def forget(options: ForgetOptions) -> int:
    """Remove a resource from the state."""
    question = f"Remove {options.resource} from the state? Nothing is deleted at the provider."
    if not agreed(question, yes=options.yes, refusal="not removed"):
        return EXIT_ERROR
    answer = ask(configuration(options), {"verb": "forget", "resource": options.resource}, ForgottenResource)
    out(f"removed {name_of(answer.resource)} from the state:")
    for address in answer.objects:
        out(f"  {address}")
    return EXIT_OK


def adopt(options: AdoptOptions) -> int:
    """Take over an existing object."""
    question = f"Take over the existing object for {options.resource}? Its URL and secret are replaced."
    if not agreed(question, yes=options.yes, refusal="not adopted"):
        return EXIT_ERROR
    request = {"verb": "adopt", "resource": options.resource, "externalId": options.external_id}
    answer = ask(configuration(options), request, AdoptedResource, timeout_s=ADOPT_S)
    for row in answer.objects:
        out(f"adopted {row.external_id} as {row.address}")
    return EXIT_OK
