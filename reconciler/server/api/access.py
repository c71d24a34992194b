"""Access control: bearer tokens, which are stored as hashes, their roles, and a limit for wrong tokens per peer."""

from __future__ import annotations

import enum
import hashlib
import hmac
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence

from reconciler.config.values import ApiToken
from reconciler.model.errors import ReconcilerError

MAX_HEADER = 20_480
"""A job's own token is the longest."""
FAILURES = 20
WINDOW_S = 60.0
PEERS = 4_096
"""Peers whose failures are counted. The one without a failure for the longest time is dropped first."""


class Access(enum.StrEnum):
    """What an operation requires of its caller."""

    PUBLIC = "public"  # nothing
    LOCAL = "local"  # the admin socket
    JOB = "job"  # the OIDC token of a job at a provider
    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"


GRANTS: Mapping[str, frozenset[Access]] = {
    "viewer": frozenset({Access.VIEWER}),
    "operator": frozenset({Access.VIEWER, Access.OPERATOR}),
    "approver": frozenset({Access.VIEWER, Access.APPROVER}),
}
"""The access of each role. No role may both start and approve."""


class Unauthorized(ReconcilerError):
    """The request has no token, or an unknown one."""

    code = "RC8005"


class Forbidden(ReconcilerError):
    """The token's role does not include the operation."""

    code = "RC8005"


class TooMany(ReconcilerError):
    """Too many wrong tokens from one peer."""

    code = "RC8005"


class FailedLoginThrottle:
    """Counts failures by peer. It never refuses a valid token, since behind a proxy all requests have the same address."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def failed(self, peer: str) -> bool:
        """Count a failure. Returns False if ``peer`` has had too many within the window."""
        now = self._clock()
        times = self._failures.setdefault(peer, deque(maxlen=FAILURES))
        self._failures.move_to_end(peer)
        if len(self._failures) > PEERS:
            self._failures.popitem(last=False)
        while times and times[0] <= now - WINDOW_S:
            times.popleft()
        if len(times) >= FAILURES:
            return False
        times.append(now)
        return True


class Tokens:
    """The configured tokens."""

    def __init__(self, configured: Sequence[ApiToken]) -> None:
        self._configured = [(token, bytes.fromhex(token.sha256)) for token in configured]

    def find(self, presented: str) -> ApiToken | None:
        """Return the configured token that ``presented`` is, or None. It compares all hashes in constant time, so timing shows nothing."""
        digest = hashlib.sha256(presented.encode("utf-8", "surrogateescape")).digest()
        match = None
        for token, known in self._configured:
            if hmac.compare_digest(digest, known):
                match = token
        return match if presented else None

    def check(self, header: str, access: Access) -> ApiToken:
        """Return the token of the header. Raises `Unauthorized`, or `Forbidden` if its role does not have ``access``."""
        token = self.find(bearer(header))
        if token is None:
            raise Unauthorized(
                "a bearer token is required" if not header else "the token is not known",
                hint="Send one that `server.tokens` has in the header `Authorization`, after the word Bearer.",
            )
        if access not in GRANTS[token.role]:
            raise Forbidden(
                f"{token.name!r} is a {token.role}; this needs the role {access.value}",
                hint=f"Use a token whose role in `server.tokens` is {' or '.join(roles_with(access))}.",
            )
        return token


def roles_with(access: Access) -> list[str]:
    """Return the roles that include ``access``."""
    return [role for role, granted in GRANTS.items() if access in granted]


def bearer(header: str) -> str:
    """Return the token of an ``Authorization`` header (RFC 6750 §2.1); empty for anything else."""
    scheme, _, token = header.partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and len(header) <= MAX_HEADER and " " not in token else ""
