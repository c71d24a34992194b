"""What receivers share: proofs of a delivery, identities, and providers that keep no deliveries."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence

from reconciler.drivers.connection import Api
from reconciler.model.events import Hook, PastDelivery
from reconciler.model.secrets import SecretValue


def signing_key(secrets: Iterable[bytes], expected: Callable[[bytes], bytes], signatures: Sequence[bytes]) -> int | None:
    """Return the index of the first of ``secrets`` for which ``expected`` gives one of ``signatures``; None if there is none.

    Compares in constant time and tries every pair, also after a match. An empty secret never matches.
    """
    match: int | None = None
    for index, secret in enumerate(secrets):
        proof = expected(secret)
        for signature in signatures:
            if hmac.compare_digest(proof, signature) and secret and match is None:
                match = index
    return match


def signed_by(body: bytes, signature: str, keys: Iterable[SecretValue]) -> int | None:
    """Return the index of the first of ``keys`` whose HMAC-SHA256 of ``body`` is ``signature`` (lower-case hex)."""
    return signing_key(
        secrets_of(keys),
        lambda secret: hmac.new(secret, body, hashlib.sha256).hexdigest().encode(),
        [signature.encode("utf-8", "replace")],
    )


def secrets_of(keys: Iterable[SecretValue]) -> list[bytes]:
    """Return the values of ``keys`` as bytes."""
    return [key.reveal().encode() for key in keys]


def identity_of(body: bytes) -> str:
    """Return ``sha256:<hex>`` of a body: the identity of an event that has no id of its own."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def kept_headers(headers: Mapping[str, str], names: Iterable[str], limit: int = 200) -> dict[str, str]:
    """Return the headers in ``names``, each value cut to ``limit`` characters."""
    return {name: headers[name][:limit] for name in names if name in headers}


def oldest_first(past: Iterable[PastDelivery]) -> tuple[PastDelivery, ...]:
    """Return ``past`` in the order of time, and of ids where times are equal."""
    return tuple(sorted(past, key=lambda delivery: (delivery.at, delivery.id)))


class KeepsNoDeliveries:
    """Part of a `reconciler.drivers.base.Receiver` whose provider lists no deliveries, and sends none again."""

    keeps_deliveries = False

    async def redeliver(self, api: Api, hook: Hook, past: PastDelivery) -> bool:
        """Return False."""
        return False
