"""The contract of a `Receiver`: what a provider's webhooks look like, and how missed ones are found.

Pure where it can be: `verify` gets bytes and keys and returns a value. Facts of every sender: docs/reference of the provider.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from reconciler.drivers.base import Api
from reconciler.model.events import Delivery, Hook, PastDelivery, Rejection
from reconciler.model.resources import Resource
from reconciler.model.secrets import SecretValue


class Receiver(Protocol):
    """How a provider sends events."""

    keeps_deliveries: bool
    """Whether the provider lists its past deliveries: `missed` then reads that list, and `fetch` and `redeliver` work.
    Where it does not, `missed` is made of the objects the events are about, and carries their payloads."""

    signs_body: bool
    """Whether `verify` hashes the body, once with each key; False: the proof stands in the body, which is read as JSON."""

    def verify(self, headers: Mapping[str, str], body: bytes, keys: Sequence[SecretValue], *, now: float) -> Delivery | Rejection:
        """Return the delivery, if one of ``keys`` proves it. Pure; never raises for anything that a sender can send.

        Names of ``headers`` are in lower case. Compares bytes in constant time, tries every key (no early exit), reads no JSON
        before the proof. A body that is proved but cannot be read is a `Delivery` with a ``problem``. ``now``: epoch seconds.
        """

    async def missed(self, api: Api, source: Resource, hooks: Sequence[Hook], since: float) -> tuple[PastDelivery, ...]:
        """Return every event after ``since`` (epoch seconds) that ``source`` should have got, oldest first: all pages.

        The caller leaves out what it has. With `keeps_deliveries` False, each carries its ``detail`` for `fetch`.
        """

    async def redeliver(self, api: Api, hook: Hook, past: PastDelivery) -> bool:
        """Ask the provider to send it again; False where it cannot. Raises typed errors."""

    async def fetch(self, api: Api, hook: Hook | None, past: PastDelivery) -> Delivery:
        """Return the event itself, equal (id, identity) to what a webhook would have brought. Raises typed errors."""
