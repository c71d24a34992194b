"""The commands of an operator: run by the daemon through its admin socket, or by this process under the lock of the state."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from reconciler.engine.compile import integration_of
from reconciler.engine.controller import Controller
from reconciler.engine.current import Current
from reconciler.engine.operations import adopt
from reconciler.manifests.nearest import Guesses
from reconciler.manifests.resource_argument import parse_resource
from reconciler.model.errors import ConfigError, ReconcilerError, UsageError
from reconciler.model.records import AuditEntry
from reconciler.model.resources import Kind, ResourceId, Suspension
from reconciler.model.status import ResourceStatus
from reconciler.model.times import epoch_of, iso

PEER_POLL_S = 0.2
PEER_STATUS_S = 1.0
"""A process stores the statuses of a reconcile within this time after its end."""
TriggerSlices = Callable[[tuple[ResourceId, ...]], Awaitable[None]]


class Control:
    """The commands. ``trigger`` requests reconciles; it returns at once in the daemon, and after they ended in a one-shot command."""

    def __init__(self, controller: Controller, trigger: TriggerSlices) -> None:
        self._controller = controller
        self._current = controller.current
        self._trigger = trigger

    @property
    def current(self) -> Current:
        """The active revision, secrets and clients of this process."""
        return self._current

    async def alive(self, request: Mapping[str, Any], peer: str) -> Mapping[str, Any]:
        """Return the active revision, which shows that the daemon is alive."""
        return {"revision": self._current.active.revision}

    async def approve(self, request: Mapping[str, Any], peer: str) -> Mapping[str, Any]:
        """Approve the set of changes with this digest, which must be blocked now."""
        digest = _text(request, "digest")
        blocked: dict[str, ResourceId] = {
            sha256: integration
            for integration, result in self._current.view.results.items()
            if result.plan is not None and (sha256 := result.plan.blocked_sha256)
        }
        integration = blocked.get(digest)
        if integration is None:
            known = ", ".join(sorted(blocked)) or "none"
            raise ReconcilerError(
                f"no blocked set has the digest {digest}",
                code="RC6020",
                hint=f"Blocked now: {known}. The digest changes with the set; review it again with `reconciler plan`.",
            )
        await self._current.context.store.approve(
            digest,
            by=peer,
            at=self._current.context.clock(),
            audit=self._audit("approve", peer, integration, digest=digest),
        )
        await self._trigger((integration,))
        return {"integration": integration.path}

    async def suspend(self, request: Mapping[str, Any], peer: str) -> Mapping[str, Any]:
        """Stop writes for a resource. A reconcile in progress stops after its batch."""
        identity = self.find(_text(request, "resource"))
        until = self._until(request.get("until"))
        reason = _text(request, "reason")
        suspension = Suspension(f"{reason} (by {peer})", until)
        await self._current.context.store.suspend(
            identity,
            suspension,
            audit=self._audit("suspend", peer, identity, reason=reason),
        )
        await self._after(identity)
        return {"resource": identity.path, "until": until or ""}

    async def resume(self, request: Mapping[str, Any], peer: str) -> Mapping[str, Any]:
        """End a suspension made by command. A commit ends one made by manifest."""
        identity = self.find(_text(request, "resource"))
        resource = self._current.active.resources.get(identity)
        ended = await self._current.context.store.unsuspend(identity, audit=self._audit("resume", peer, identity))
        if not ended:
            where = f" (lifecycle.suspend in {resource.location})" if resource is not None and resource.lifecycle.suspend else ""
            raise ReconcilerError(
                f"{identity} is not suspended by command{where}",
                code="RC6021",
                hint="Remove `lifecycle.suspend` from the manifest." if where else "",
            )
        await self._after(identity)
        return {"resource": identity.path}

    async def reconcile(self, request: Mapping[str, Any], peer: str) -> Mapping[str, Any]:
        """Reconcile a resource now. With ``wait``, answer after its reconcile has ended."""
        identity = self.find(_text(request, "resource"))
        integration = self._integration(identity)
        if integration is None:
            raise ReconcilerError(f"{identity} has nothing at a provider", code="RC6022")
        timeout_s = _seconds(request, "timeout", 300.0)
        await self._current.context.store.append_audit([self._audit("reconcile", peer, identity)])
        # A slice in progress may have passed the resource already, so this waits for the one after it.
        before = self._controller.counts.get(integration, 0) + self._controller.at_work(integration)
        await self._trigger((integration,))
        if request.get("wait"):
            try:
                async with asyncio.timeout(timeout_s):
                    await self._reconciled(integration, before)
            except TimeoutError:
                raise ReconcilerError(
                    f"{identity} was not reconciled within {timeout_s:g} s",
                    code="RC8003",
                    hint="The request stays; see `reconciler status`.",
                ) from None
            await self._controller.finish_pass()
        status = self._current.view.statuses.get(identity)
        return {"resource": identity.path, **(_brief(status) if status is not None else {})}

    async def _reconciled(self, integration: ResourceId, before: int) -> None:
        """Wait until more than ``before`` reconciles have ended in this process, or one in another process has covered the request."""
        store, alone = self._current.context.store, not self._controller.holder
        number = 0 if alone else (await store.requested(integration))[0]
        while self._controller.counts.get(integration, 0) <= before:
            await asyncio.sleep(0.05 if alone else PEER_POLL_S)
            if alone:
                continue
            newest, covered = await store.requested(integration)
            if covered >= min(number, newest):  # the row of an integration that is gone is deleted
                await asyncio.sleep(PEER_STATUS_S)
                return

    async def forget(self, request: Mapping[str, Any], peer: str) -> Mapping[str, Any]:
        """Delete the records of a resource, or of one address. Nothing is deleted at the provider."""
        if "#" in _text(request, "resource"):
            return await self._forget_address(_text(request, "resource"), peer)
        identity = self.find(_text(request, "resource"), gone=True)
        deps = self._current.context
        records = [r for r in await deps.store.recorded() if r.resource == identity]
        if not records:
            near = Guesses().nearest_resource(str(identity), sorted({str(r.resource) for r in await deps.store.recorded()}))
            raise ReconcilerError(
                f"nothing is recorded for {identity}",
                code="RC6023",
                hint=f"Did you mean {near}?" if near else "See `reconciler status`.",
            )
        if identity in self._current.active.resources:
            raise ReconcilerError(
                f"{identity} is still declared in {self._current.active.resources[identity].location}",
                code="RC6024",
                hint="Remove the manifest first (with deletionPolicy Orphan), otherwise it is found again at once. "
                "To forget one object of several, use its address: " + f"reconciler forget '{records[0].address}'",
            )
        await deps.store.forget([r.address for r in records], audit=[self._audit("forget", peer, identity)])
        await self._after(identity, records[0].integration)
        return {"resource": identity.path, "objects": [r.address for r in records]}

    async def _forget_address(self, text: str, peer: str) -> Mapping[str, Any]:
        """Forget one object of a resource that may keep others. It is refused only if the address itself is declared."""
        deps = self._current.context
        record = next((r for r in await deps.store.recorded() if r.address == text), None)
        if record is None:
            known = sorted(r.address for r in await deps.store.recorded() if r.address.startswith(text.partition("#")[0] + "#"))
            raise ReconcilerError(
                f"nothing is recorded at the address {text[:200]}",
                code="RC6023",
                hint=f"Recorded there: {', '.join(known[:5])}" if known else "See `reconciler status`.",
            )
        result = self._current.view.results.get(record.integration) or await self._controller.plan(record.integration)
        if any(managed.address == record.address for managed in result.compiled.objects):
            raise ReconcilerError(
                f"{record.address} is still declared",
                code="RC6024",
                hint=f"Take {record.scope.key} out of the manifest of {record.resource} first, otherwise it is found again at once.",
            )
        audit = self._audit("forget", peer, record.resource, address=record.address)
        await deps.store.forget([record.address], audit=[audit])
        await self._after(record.resource, record.integration)
        return {"resource": record.resource.path, "objects": [record.address]}

    async def adopt(self, request: Mapping[str, Any], peer: str) -> Mapping[str, Any]:
        """Adopt the object that exists at the provider for a resource."""
        identity = self.find(_text(request, "resource"))
        integration = self._integration(identity)
        if integration is None or identity not in self._current.active.resources:
            raise ReconcilerError(f"{identity} has nothing at a provider", code="RC6022")
        external_id = _text(request, "externalId", "")
        objects = await adopt(self._controller, identity, integration, external_id or None, peer)
        await self._after(identity, integration)
        return {"resource": identity.path, "objects": objects}

    # -- shared -----------------------------------------------------------------------------------------------------

    def find(self, text: str, *, gone: bool = False) -> ResourceId:
        """Return the resource ``KIND/NAME[@CANVAS]``. Raises `ReconcilerError` with the nearest names if it is unknown."""
        known = set(self._current.active.resources) | set(self._current.view.statuses)
        identity = parse_resource(text, known)
        if identity not in known and not gone:
            near = Guesses().nearest_resource(str(identity), [str(candidate) for candidate in known])
            raise ReconcilerError(
                f"no resource {identity}",
                code="RC6025",
                hint=f"Did you mean {near}?" if near else "See `reconciler status`.",
            )
        return identity

    def _integration(self, identity: ResourceId) -> ResourceId | None:
        if identity.kind == Kind.INTEGRATION.value:
            return identity
        resource = self._current.active.resources.get(identity)
        if resource is not None:
            return integration_of(resource)
        return next((i for i, r in self._current.view.results.items() if any(o.resource == identity for o in r.recorded)), None)

    async def _after(self, identity: ResourceId, integration: ResourceId | None = None) -> None:
        await self._current.refresh_suspensions()
        integration = integration or self._integration(identity)
        if integration is not None:
            await self._trigger((integration,))

    def _until(self, text: object) -> str | None:
        if not text:
            return None
        from reconciler.config.values import parse_duration

        try:
            at = epoch_of(str(text))
        except ValueError:
            try:
                at = self._current.context.clock() + parse_duration(str(text))
            except ConfigError:
                message = f"{str(text)[:60]!r} is neither a time nor a duration"
                raise UsageError(message, hint="For example 2h, or 2030-01-31T00:00:00Z.") from None
        if at <= self._current.context.clock():
            raise UsageError(f"{text} is in the past", hint="Use a time in the future.")
        return iso(at)

    def _audit(self, verb: str, peer: str, identity: ResourceId, **detail: object) -> AuditEntry:
        return AuditEntry(
            at=self._current.context.clock(),
            actor=peer,
            verb=verb,
            resource=identity.path,
            revision=self._current.active.revision,
            detail=detail,
        )


def _text(request: Mapping[str, Any], field: str, default: str | None = None) -> str:
    """Return a field of a request that is text. Raises `UsageError` if it is missing without a ``default``, or is not text."""
    value: object = request.get(field)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        fault = "is missing" if value is None else "is not text"
        raise UsageError(f"the field {field!r} of the request {fault}")
    return value


def _seconds(request: Mapping[str, Any], field: str, default: float) -> float:
    """Return a field of a request that is a positive number. Raises `UsageError` for any other value."""
    value: object = request.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= sys.float_info.max:
        raise UsageError(f"the field {field!r} of the request is not a positive number")
    return float(value)


def _brief(status: ResourceStatus) -> dict[str, Any]:
    ready = status.conditions[0]
    return {"ready": ready.status.value, "reason": ready.reason, "message": ready.message}
