"""Which repositories a token of a GitHub App covers: one, or, where many need the same permission, those that need it together.

A token of its own for each of 1,000 repositories costs 1,000 requests an hour. GitHub takes up to 500 repositories for one token, so
beyond `OWN_TOKENS` repositories the calls that wait at the same moment share one. No token covers a permission, a level or a
repository that no call has asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from reconciler.drivers.auth import RENEW_BEFORE_S, Expiring
from reconciler.drivers.github.permissions import Need
from reconciler.model.errors import PermissionDenied, ReconcilerError
from reconciler.model.secrets import SecretValue

OWN_TOKENS = 20
"""So many repositories have a token of their own for a permission; the others share."""
MOST_REPOSITORIES = 500
"""GitHub's limit for one token."""
Mint = Callable[[Need, Sequence[str]], Awaitable[Expiring[SecretValue]]]
"""Requests one token for repositories, by name. Raises `OutsideInstallation` if one of them is not in the installation."""


class OutsideInstallation(PermissionDenied):
    """GitHub issues no token, because a repository is not in the installation. It does not say which one."""


@dataclass(slots=True)
class Ticket:
    """A call that waits for a token of its repository."""

    token: Expiring[SecretValue] | None = None
    error: ReconcilerError | None = None

    @property
    def done(self) -> bool:
        return self.token is not None or self.error is not None


@dataclass(frozen=True, slots=True)
class SharedToken:
    """A token for several repositories."""

    token: Expiring[SecretValue]
    repositories: frozenset[str]


@dataclass(slots=True)
class TokenGroup:
    """The repositories that need one permission at one level."""

    alone: set[str] = field(default_factory=set)
    """Those with a token of their own: the first `OWN_TOKENS`, and those that the installation did not contain."""
    waiting: dict[str, Ticket] = field(default_factory=dict)
    shared: list[SharedToken] = field(default_factory=list)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class RepositoryTokens:
    """Issues the tokens of one installation."""

    def __init__(self, mint: Mint, clock: Callable[[], float]) -> None:
        self._mint = mint
        self._clock = clock
        self._groups: dict[tuple[str, str], TokenGroup] = {}

    async def issue(self, need: Need) -> Expiring[SecretValue]:
        """Return a token that covers ``need``. Raises what `Mint` raises for it."""
        if not need.repository:
            return await self._mint(need, ())
        group = self._groups.setdefault((need.permission, need.level), TokenGroup())
        if need.repository in group.alone or len(group.alone) < OWN_TOKENS:
            group.alone.add(need.repository)
            return await self._mint(need, (need.repository,))
        ticket = group.waiting.setdefault(need.repository, Ticket())
        while not ticket.done:
            async with group.lock:  # those that come meanwhile share the next token
                if not ticket.done:
                    await self._serve(need, group)
        if ticket.error is not None:
            raise ticket.error
        assert ticket.token is not None  # noqa: S101  done, without an error
        return ticket.token

    def forget(self) -> None:
        """Drop the shared tokens: GitHub refused one."""
        for group in self._groups.values():
            group.shared.clear()

    async def _serve(self, need: Need, group: TokenGroup) -> None:
        """Serve those that wait with a known token, or else with a new one.

        It also covers the repositories of the tokens that it replaces, so that calls one after the other cost no token each.
        """
        now = self._clock()
        good = [each for each in group.shared if now < each.token.expires_at - RENEW_BEFORE_S]
        covered = {name: each for each in good for name in each.repositories}
        ended = [each for each in group.shared if each not in good and not covered.keys() >= each.repositories]
        group.shared = [*good, *ended]
        for name in covered.keys() & group.waiting.keys():
            group.waiting.pop(name).token = covered[name].token
        if group.waiting:
            again = [name for each in ended for name in sorted(each.repositories - covered.keys() - group.alone)]
            await self._share(need, group, list(dict.fromkeys([*group.waiting, *again]))[:MOST_REPOSITORIES])

    async def _share(self, need: Need, group: TokenGroup, names: Sequence[str]) -> None:
        """Request a token for ``names``; where one of them is outside the installation, for each half."""
        try:
            token = await self._mint(need, names)
        except OutsideInstallation as error:
            if len(names) > 1:
                for part in (names[: len(names) // 2], names[len(names) // 2 :]):
                    await self._share(need, group, part)
                return
            group.alone.update(names)
            self._answer(group, names, error=error)
        except ReconcilerError as error:
            self._answer(group, names, error=error)
        else:
            group.shared.append(SharedToken(token, frozenset(names)))
            self._answer(group, names, token=token)

    @staticmethod
    def _answer(
        group: TokenGroup,
        names: Sequence[str],
        *,
        token: Expiring[SecretValue] | None = None,
        error: ReconcilerError | None = None,
    ) -> None:
        for name in names:
            ticket = group.waiting.pop(name, None)
            if ticket is not None:
                ticket.token, ticket.error = token, error


__all__ = ["MOST_REPOSITORIES", "OWN_TOKENS", "OutsideInstallation", "RepositoryTokens"]
