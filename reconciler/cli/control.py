"""Verbs that act on a running daemon through its admin socket or, without one, take the lock and act themselves."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Mapping
from typing import Any

from reconciler.cli.daemon_client import operations_of
from reconciler.cli.output import confirm, say
from reconciler.cli.session import ask_daemon, configuration
from reconciler.cli.sink import out
from reconciler.config.settings import Config
from reconciler.model.exit_codes import EXIT_ERROR, EXIT_OK
from reconciler.model.resources import ResourceId
from reconciler.planning.approval import Approval


def ask(config: Config, request: Mapping[str, Any], *, timeout_s: float = 60.0) -> Mapping[str, Any]:
    """Return the answer of the daemon, or of this process under the state's lock."""
    answer = ask_daemon(config, request, timeout_s=timeout_s)
    return answer if answer is not None else asyncio.run(_alone(config, request))


async def _alone(config: Config, request: Mapping[str, Any]) -> Mapping[str, Any]:
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


def approve_set(options: argparse.Namespace) -> int:
    """Approve a blocked set; ``id`` is its digest."""
    answer = ask(configuration(options), {"verb": "approve_plan", "digest": options.id})
    out(f"approved {options.id} on {answer['integration']}; it is being applied")
    return EXIT_OK


def suspend(options: argparse.Namespace) -> int:
    """Stop writes for a resource."""
    answer = ask(
        configuration(options),
        {"verb": "suspend", "resource": options.resource, "reason": options.reason, "until": options.until},
    )
    out(
        f"suspended {answer['resource']}"
        + (f" until {answer['until']}" if answer.get("until") else f"; end it with: reconciler resume {options.resource}")
    )
    return EXIT_OK


def resume(options: argparse.Namespace) -> int:
    """End a suspension."""
    answer = ask(configuration(options), {"verb": "resume", "resource": options.resource})
    out(f"resumed {answer['resource']}")
    return EXIT_OK


def reconcile(options: argparse.Namespace) -> int:
    """Look again now."""
    request = {"verb": "reconcile", "resource": options.resource, "wait": options.wait, "timeout": options.timeout}
    answer = ask(configuration(options), request, timeout_s=options.timeout + 5)
    if not options.wait:
        out(f"asked for {answer['resource']}")
        return EXIT_OK
    out(
        f"{answer['resource']}: Ready={answer.get('ready', 'Unknown')} {answer.get('reason', '')} {answer.get('message', '')}".rstrip()
    )
    return EXIT_OK if answer.get("ready") == "True" else EXIT_ERROR


def forget(options: argparse.Namespace) -> int:
    """Drop a resource from the state."""
    if not options.yes and not confirm(f"Forget what is recorded of {options.resource}? Nothing is deleted at the provider."):
        say("not forgotten; use --yes where there is no terminal")
        return EXIT_ERROR
    answer = ask(configuration(options), {"verb": "forget", "resource": options.resource})
    out(f"forgot {answer['resource']}:")
    for address in answer["objects"]:
        out(f"  {address}")
    return EXIT_OK


def adopt(options: argparse.Namespace) -> int:
    """Take over a foreign object."""
    if not options.yes and not confirm(f"Take over what exists for {options.resource}? Its URL and secret are overwritten."):
        say("not adopted; use --yes where there is no terminal")
        return EXIT_ERROR
    answer = ask(
        configuration(options), {"verb": "adopt", "resource": options.resource, "externalId": options.external_id}, timeout_s=120
    )
    for row in answer["objects"]:
        out(f"adopted {row['externalId']} as {row['address']}")
    return EXIT_OK
