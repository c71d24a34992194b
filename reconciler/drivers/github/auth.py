"""Putting a GitHub token on a request."""

from __future__ import annotations

import base64
from collections.abc import Callable

from reconciler.model.resources import SecretRef
from reconciler.model.secrets import SecretValue

API_VERSION = "2022-11-28"
ACCEPT = "application/vnd.github+json"


class TokenAuthenticator:
    """``Authorization: Bearer TOKEN``; with a user name ``Basic``, as old GitHub Enterprise servers have it."""

    def __init__(self, ref: SecretRef, read: Callable[[SecretRef], SecretValue], *, username: str = "") -> None:
        self._ref = ref
        self._read = read
        self._username = username
        self._used: SecretValue | None = None

    async def authorize(self, headers: dict[str, str]) -> None:
        """Add the token, and the version of the API that this driver speaks. Raises `SecretUnavailable`."""
        if self._used is None:
            self._used = self._read(self._ref)
        headers["accept"] = ACCEPT
        headers["x-github-api-version"] = API_VERSION
        if self._username:
            pair = f"{self._username}:{self._used.reveal()}".encode()
            headers["authorization"] = "Basic " + base64.b64encode(pair).decode()
        else:
            headers["authorization"] = f"Bearer {self._used.reveal()}"

    async def refresh(self) -> bool:
        """Read the secret again; True only when it changed, since the same token would be refused again."""
        before, self._used = self._used, self._read(self._ref)
        return before is None or before.reveal() != self._used.reveal()
