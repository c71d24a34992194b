"""Suggestions: the name that is most similar to a wrong one, at a bounded cost. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

MAX_NAME = 100
MAX_NAMES = 2_000


@dataclass(slots=True)
class Guesses:
    """Finds similar names within a budget: of thousands of wrong names, suggestions for the first hundred are enough."""

    left: int = 3_000_000
    """Remaining budget in pairs of characters to compare: long names cost more than short ones."""

    def nearest(self, name: str, known: Collection[str]) -> str:
        """Return the nearest of ``known``, or an empty text."""
        if len(name) > MAX_NAME or len(known) > MAX_NAMES:
            return ""
        cost = len(name) * sum(map(len, known))
        if cost > self.left:
            return ""
        self.left -= cost
        import difflib

        return next(iter(difflib.get_close_matches(name, sorted(known), n=1)), "")

    def nearest_resource(self, identity: str, known: Collection[str]) -> str:
        """Return the identity (``KIND/NAME``) of the same kind whose name is nearest, or an empty text."""
        kind, _, name = identity.partition("/")
        of_kind = {other.partition("/")[2]: other for other in known if other.startswith(f"{kind}/")}
        return of_kind.get(self.nearest(name, list(of_kind)), "")
