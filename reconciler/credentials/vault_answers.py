"""Answers of OpenBao and HashiCorp Vault, as far as they are read, and the server's own words in a refusal. Pure."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from reconciler.drivers.auth import ApiResponse
from reconciler.drivers.wire import matches
from reconciler.model.errors import ReconcilerError

T = TypeVar("T")
MAX_TEXT = 300


class VaultErrors(msgspec.Struct):
    errors: list[str] = []


class VaultLogin(msgspec.Struct):
    client_token: str
    lease_duration: int = 0


class VaultLoginAnswer(msgspec.Struct):
    auth: VaultLogin


class VaultToken(msgspec.Struct):
    ttl: int = 0
    renewable: bool = False
    policies: list[str] = []


class VaultTokenAnswer(msgspec.Struct):
    data: VaultToken


class VersionMetadata(msgspec.Struct):
    version: int
    created_time: str = ""
    deletion_time: str = ""
    destroyed: bool = False


class VaultVersion(msgspec.Struct):
    metadata: VersionMetadata
    data: dict[str, Any] | None = None


class VaultVersionAnswer(msgspec.Struct):
    data: VaultVersion


class VaultMount(msgspec.Struct):
    type: str = ""
    options: dict[str, str] | None = None


class VaultMountAnswer(msgspec.Struct):
    data: VaultMount


class VaultHealth(msgspec.Struct):
    initialized: bool = True
    sealed: bool = False
    standby: bool = False


def parsed(answer: ApiResponse, kind: type[T]) -> T | None:
    try:
        return matches(answer.json(), kind)
    except ReconcilerError:
        return None


def refuses_token(answer: ApiResponse) -> bool:
    """Whether an answer of ``lookup-self`` refuses the token. A valid token without the policy ``default`` may not look itself up.

    For an unknown token the error is "permission denied", at Vault with "invalid token"; a policy's refusal is a list of one error.
    """
    return answer.status == 403 and "1 error occurred" not in said_by(answer)


def capabilities_on(answer: ApiResponse, path: str) -> str:
    """Return the capabilities on ``path`` of an answer of ``sys/capabilities-self``, for a message."""
    capabilities = (parsed(answer, dict[str, Any]) or {}).get(path)
    if isinstance(capabilities, list):
        return ", ".join(str(each) for each in capabilities[:10]) or "none"
    return "not told by the server"


def said_by(answer: ApiResponse) -> str:
    """Return the server's own words: its errors, and nothing else of the answer."""
    errors = parsed(answer, VaultErrors)
    text = "; ".join(errors.errors) if errors is not None else ""
    return " ".join(text.split())[:MAX_TEXT] or f"status {answer.status} without a message"


__all__ = [
    "VaultHealth",
    "VaultLoginAnswer",
    "VaultMountAnswer",
    "VaultTokenAnswer",
    "VaultVersion",
    "VaultVersionAnswer",
    "VersionMetadata",
    "capabilities_on",
    "parsed",
    "refuses_token",
    "said_by",
]
