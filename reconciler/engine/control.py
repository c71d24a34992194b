"""What an operator may ask: of the running daemon through its admin socket, or of this process under the state's lock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from reconciler.engine.compile import integration_of
from reconciler.engine.controller import Controller
from reconciler.engine.operations import adopt
from reconciler.manifests.nearest import Guesses
from reconciler.model.errors import ConfigError, ReconcilerError, UsageError
from reconciler.model.records import AuditEntry
from reconciler.model.resources import Kind, ResourceId, Suspension
from reconciler.model.status import ResourceStatus
from reconciler.model.times import epoch_of, iso

TriggerSlices = Callable[[tuple[ResourceId, ...]], Awaitable[None]]


class Control:
    """``trigger`` asks for slices and returns at once (daemon) or when they are done (one-shot)."""

    def __init__(self, controller: Controller, trigger: TriggerSlices) -> None:
        self._controller = controller
        self._current = controller.current
        self._trigger = trigger

    async def alive(self, request: Mapping[str, Any], peer: str) -> Mapping[str, Any]:
        """Answer with the active revision: the daemon is alive."""
        return {"revision": self._current.active.revision}

    async def approve(self, request: Mapping[str, Any], peer: str) -> Mapping[str, Any]:
        """Approve the blocked set with this digest; it must be one that is blocked now."""
        digest = str(request["digest"])
        blocked = {
            r.plan.blocked_sha256: i
            for i, r in self._current.view.results.items()
            if r.plan is not None and r.plan.blocked_sha256
        }
        if not digest.startswith("sha256:") or digest not in blocked:
            known = ", ".join(sorted(str(one) for one in blocked)) or "none"
            raise ReconcilerError(
                f"no blocked set has the digest {digest}",
                code="RC6020",
                hint=f"Blocked now: {known}. The set changes with what is in it; review it again with `reconciler plan`.",
            )
        integration = blocked[digest]  # type: ignore[index]
        await self._current.context.store.approve(
            digest,
            by=peer,
            at=self._current.context.clock(),
            audit=self._audit("approve", peer, integration, digest=digest),
        )
        await self._trigger((integration,))
        return {"integration": integration.path}

    async def suspend(self, request: Mapping[str, Any], peer: str) -> Mapping[str, Any]:
        """No writes for this resource from now on; a slice under way stops after its batch."""
        identity = self.find(str(request["resource"]))
        until = self._until(request.get("until"))
        suspension = Suspension(f"{request['reason']} (by {peer})", until)
        await self._current.context.store.suspend(
            identity,
            suspension,
            audit=self._audit("suspend", peer, identity, reason=str(request["reason"])),
        )
        await self._after(identity)
        return {"resource": identity.path, "until": until or ""}

    async def resume(self, request: Mapping[str, Any], peer: str) -> Mapping[str, Any]:
        """End a suspension made by command; one in the manifest is ended by a commit."""
        identity = self.find(str(request["resource"]))
        resource = self._current.active.resources.get(identity)
        was = await self._current.context.store.unsuspend(identity, audit=self._audit("resume", peer, identity))
        if not was:
            where = f" (lifecycle.suspend in {resource.location})" if resource is not None and resource.lifecycle.suspend else ""
            raise ReconcilerError(
                f"{identity} is not suspended by command{where}",
                code="RC6021",
                hint="Remove `lifecycle.suspend` from the manifest." if where else "",
            )
        await self._after(identity)
        return {"resource": identity.path}

    async def reconcile(self, request: Mapping[str, Any], peer: str) -> Mapping[str, Any]:
        """Look again at a resource now; with ``wait``, answer when it was looked at."""
        identity = self.find(str(request["resource"]))
        integration = self._integration(identity)
        if integration is None:
            raise ReconcilerError(f"{identity} has nothing at a provider", code="RC6022")
        # A slice under way may have passed the resource already: the one after it is waited for.
        before = self._controller.counts.get(integration, 0) + self._controller.at_work(integration)
        await self._trigger((integration,))
        if request.get("wait"):
            async with asyncio.timeout(float(request.get("timeout", 300))):
                while self._controller.counts.get(integration, 0) <= before:  # noqa: ASYNC110 - a slice may end in any task
                    await asyncio.sleep(0.05)
            await self._controller.finish_pass()
        status = self._current.view.statuses.get(identity)
        return {"resource": identity.path, **(_brief(status) if status is not None else {})}

    async def forget(self, request: Mapping[str, Any], peer: str) -> Mapping[str, Any]:
        """Drop what is recorded of a resource, or of one address; nothing is deleted at the provider."""
        if "#" in str(request["resource"]):
            return await self._forget_address(str(request["resource"]), peer)
        identity = self.find(str(request["resource"]), gone=True)
        deps = self._current.context
        records = [r for r in await deps.store.recorded() if r.resource == identity]
        if not records:
            raise ReconcilerError(f"nothing is recorded for {identity}", code="RC6023")
        if identity in self._current.active.resources:
            raise ReconcilerError(
                f"{identity} is still declared in {self._current.active.resources[identity].location}",
                code="RC6024",
                hint="Remove the manifest first (with deletionPolicy Orphan), else it is found again at once; "
                "one object of several is named by its address: " + f"reconciler forget '{records[0].address}'",
            )
        await deps.store.forget([r.address for r in records], audit=[self._audit("forget", peer, identity)])
        await self._after(identity, records[0].integration)
        return {"resource": identity.path, "objects": [r.address for r in records]}

    async def _forget_address(self, text: str, peer: str) -> Mapping[str, Any]:
        """One object of a resource that may go on with others: what is refused is an address that is itself declared."""
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
        if any(one.address == record.address for one in result.compiled.objects):
            raise ReconcilerError(
                f"{record.address} is still declared",
                code="RC6024",
                hint=f"Take {record.scope.key} out of the manifest of {record.resource} first, else it is found again at once.",
            )
        audit = self._audit("forget", peer, record.resource, address=record.address)
        await deps.store.forget([record.address], audit=[audit])
        await self._after(record.resource, record.integration)
        return {"resource": record.resource.path, "objects": [record.address]}

    async def adopt(self, request: Mapping[str, Any], peer: str) -> Mapping[str, Any]:
        """Take over what exists at the provider for a resource."""
        identity = self.find(str(request["resource"]))
        integration = self._integration(identity)
        if integration is None or identity not in self._current.active.resources:
            raise ReconcilerError(f"{identity} has nothing at a provider", code="RC6022")
        external_id = request.get("externalId")
        objects = await adopt(self._controller, identity, integration, str(external_id) if external_id else None, peer)
        await self._after(identity, integration)
        return {"resource": identity.path, "objects": objects}

    # -- shared -----------------------------------------------------------------------------------------------------

    def find(self, text: str, *, gone: bool = False) -> ResourceId:
        """Return the resource that ``KIND/NAME[@CANVAS]`` names; the error offers the nearest ones."""
        known = set(self._current.active.resources) | set(self._current.view.statuses)
        identity = parse_resource(text, known)
        if identity not in known and not gone:
            near = Guesses().nearest(str(identity), [str(one) for one in known])
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
                message = f"{str(text)[:60]!r} is no time and no duration"
                raise UsageError(message, hint="For example 2h, or 2030-01-31T00:00:00Z.") from None
        if at <= self._current.context.clock():
            raise UsageError(f"{text} is past", hint="Give a time that is still to come.")
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


def parse_resource(text: str, known: set[ResourceId]) -> ResourceId:
    """Return the identity that a user typed; kinds fold case, a canvas may be left out where it is clear."""
    body, _, canvas = text.partition("@")
    kind, slash, name = body.partition("/")
    kinds = {one.value.lower(): one.value for one in Kind}
    if not slash or not name or kind.lower() not in kinds:
        meant = sorted(str(one) for one in known if one.name == body)
        hint = f"Did you mean {meant[0]}?" if meant else "Kinds: " + ", ".join(one.value for one in Kind)
        raise UsageError(f"{text!r} is not KIND/NAME", hint=hint)
    kind = kinds[kind.lower()]
    if canvas:
        return ResourceId(kind, canvas, name)
    matches = [one for one in known if one.kind == kind and one.name == name]
    if len(matches) > 1 and not any(one.canvas == "default" for one in matches):
        raise UsageError(
            f"{text} is in more than one canvas", hint="Say which: " + ", ".join(str(one) for one in sorted(matches))
        )
    return next((one for one in matches if one.canvas == "default"), matches[0] if matches else ResourceId(kind, "default", name))


def _brief(status: ResourceStatus) -> dict[str, Any]:
    ready = status.conditions[0]
    return {"ready": ready.status.value, "reason": ready.reason, "message": ready.message}
