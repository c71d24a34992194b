"""The record of a signing key of the OIDC issuer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A signing key and its life, in epoch seconds. The private part is sealed under the master key."""

    number: int
    """1, 2, 3 … in the order of creation."""
    kid: str
    public: Mapping[str, str]
    """The public JWK; empty if its row is damaged."""
    sealed: bytes
    seal_key_id: str
    """The master key that opens `sealed`."""
    published_at: float
    sign_from: float
    revoked_at: float | None = None

    def __repr__(self) -> str:
        return f"IssuerKey({self.number}, {self.kid})"
