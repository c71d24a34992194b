"""One Integration whose credential is tried, through the real program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.engine.world import TOKENS, World


class OneCredential(World):
    """A world with a single provider; `condition` is that of its credential."""

    def __init__(self, folder: Path, provider: str) -> None:
        super().__init__(folder, providers=(provider,))
        self.provider = provider
        self.token = TOKENS[provider]
        self.admin = self.servers[provider].admin

    @property
    def credential(self) -> dict[str, Any]:
        return self.condition("Integration", self.provider, "CredentialsValid") or {}

    @property
    def row(self) -> dict[str, Any]:
        (row,) = self.status()["credentials"]
        return dict(row)

    def declare(self, more: str) -> None:
        """Write the Integration again, with further lines of its spec."""
        self.write(f"{self.provider}.yaml", f"{self.integration(self.provider)}\n{more}")

    def use(self, token: str) -> None:
        """Replace the secret."""
        self.extra_env[f"RECONCILER_SECRET_{self.provider.upper()}"] = token

    def once(self) -> int:
        """Make one pass and return the exit code; fails if the output contains the token."""
        done = self.cli("run", "--once")
        assert self.token not in done.stdout + done.stderr
        return done.returncode
