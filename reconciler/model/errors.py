"""Errors and problems. Each has a stable code with a page under ``docs/errors`` (the table is `reconciler.model.codes`).

ReconcilerError                 what, where, why, next command
├── UsageError                  exit 64
├── ConfigError                 configuration file or environment
├── ManifestError               carries problems; exit 5
├── SourceError                 Git or folder; the last good revision stays
├── SecretUnavailable           a value that is missing; nothing remote is touched
├── StateError                  state unusable, wrong key, held by another process
├── PlanMoved                   the provider changed since the plan was reviewed
└── ProviderError               a remote call failed; says whether it may have taken effect and when to try again
├── AuthFailed              401: credential refused
├── PermissionDenied        403: names what is missing
├── NotFound                404 of an item (never proof of absence) or of its scope
├── Conflict                409/412 or a duplicate: look up, diff again
├── ValidationFailed        values that the API refuses: terminal until the spec changes
│   └── Declined            refused for a reason outside the manifest: a limit, a lock, a plan, a proxy; retried rarely
├── RateLimited             403/429: no call before ``retry_at``
├── Moved                   301/307 of a renamed repository
├── ProviderUnavailable     5xx, refused, DNS: retry later
├── OutcomeUnknown          timeout, reset or 5xx after a write was sent: list before anything else
├── ProviderProtocolError   an answer that violates the API
├── TLSFailed               certificate or protocol refused; never falls back
└── AddressRefused          SSRF rules: host or address not allowed
"""

from __future__ import annotations

import enum
import errno
from dataclasses import dataclass, field

from reconciler.model.resources import Location, ResourceId


class Severity(enum.StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One finding about a manifest: shown with its place, a JSON pointer, a stable code and the next step."""

    location: Location
    code: str
    message: str
    pointer: str = ""
    hint: str = ""
    severity: Severity = Severity.ERROR
    resource: ResourceId | None = None
    text: str = field(default="", compare=False, repr=False)
    """The source line, as it was read: for a terminal only, which redacts it. Empty if it is not known."""

    @property
    def is_error(self) -> bool:
        """Whether it makes the document invalid."""
        return self.severity is Severity.ERROR


class ReconcilerError(Exception):
    """An error that is shown to a user: never with a traceback or a secret."""

    code: str = "RC9001"
    exit_code: int = 1
    stops_integration = False
    """Whether no further call of the same integration can succeed now: refused credential, rate limit, full disk."""
    needs_action = False
    """Whether a person has to act, though the call is retried: the condition is Stalled, not Reconciling."""
    out_of_reach = False
    """Whether no retry ends it: the scope is gone, or this credential may not see it."""

    def __init__(self, message: str, *, code: str | None = None, hint: str = "", location: Location | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.location = location
        if code is not None:
            self.code = code

    @property
    def is_defect(self) -> bool:
        """Whether this program itself is at fault."""
        return self.code == ReconcilerError.code


class UsageError(ReconcilerError):
    code = "RC3001"
    exit_code = 64


class ConfigError(ReconcilerError):
    code = "RC3010"
    details: tuple[str, ...] = ()
    """Each problem with its place, if there are several."""


class ManifestError(ReconcilerError):
    """Raised by commands that need a valid repository; carries all problems at once."""

    code = "RC1001"
    exit_code = 5

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        errors = [problem for problem in problems if problem.is_error]
        super().__init__(f"{len(errors)} problem{'s' if len(errors) != 1 else ''} in the manifests")
        self.problems = problems


class SourceError(ReconcilerError):
    code = "RC2001"


class SecretUnavailable(ReconcilerError):
    code = "RC4001"

    @property
    def may_return(self) -> bool:
        """Whether the backend is at fault and not the Secret, so that the value may be there later without a change in Git.

        An OIDC key that is not published yet (RC4023) is also only late.
        """
        return self.code in {"RC4023", "RC4080", "RC4081", "RC4082", "RC4083", "RC4087", "RC4300"}


class StateError(ReconcilerError):
    code = "RC7001"


_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_RIGHT = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def storage_error(error: OSError, path: object) -> StateError:
    """Return the error to show when a file or folder of the program cannot be used. Pure."""
    reason = error.strerror or type(error).__name__
    if error.errno in _NO_ROOM:
        return StateError(
            f"the disk is full: {path} cannot be written",
            code="RC7005",
            hint="Free disk space; no remote write is made until then.",
        )
    if error.errno in _NO_RIGHT:
        return StateError(
            f"{path} cannot be used: {reason}",
            code="RC7002",
            hint="Give it to the user that runs the program (chown), or make the file system writable; `reconciler doctor` checks it.",
        )
    return StateError(
        f"{path} cannot be used: {reason}",
        code="RC7072",
        hint="Check the file and its disk; `reconciler doctor` checks all of them.",
    )


class PlanMoved(ReconcilerError):
    code = "RC6001"


class NotImplementedYet(ReconcilerError):
    """Valid, but not supported by this version; the status has the reason ``NotImplemented``."""

    code = "RC6010"


class RetryKind(enum.StrEnum):
    """What happens next: decided where the error is raised, executed by `reconciler.engine.backoff`."""

    BACKOFF = "backoff"  # retry with growing pauses
    AT = "at"  # not before retry_at (a rate limit)
    SPEC = "spec"  # terminal until Git, or the secret, changes
    CREDENTIAL = "credential"  # the whole integration waits for its credential


class ProviderError(ReconcilerError):
    """A remote call failed.

    ``unknown_outcome``: the write may have taken effect. ``retry_at`` is seconds since the epoch.
    """

    code = "RC5001"
    retry: RetryKind = RetryKind.BACKOFF
    unknown_outcome = False

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        request: str = "",
        retry_at: float | None = None,
        code: str | None = None,
        hint: str = "",
        body: object = None,
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.status = status
        self.request = request  # "PATCH /repos/acme/x/hooks/1": never with a query or a body
        self.retry_at = retry_at
        self.body = body  # decoded answer, for drivers; never shown or logged


class AuthFailed(ProviderError):
    code = "RC5011"
    retry = RetryKind.CREDENTIAL
    stops_integration = True


class PermissionDenied(ProviderError):
    code = "RC5012"
    needs_action = True
    out_of_reach = True


class ReadOnly(PermissionDenied):
    """No credential can change anything there: the repository is archived."""

    code = "RC5045"
    out_of_reach = False


class NotFound(ProviderError):
    code = "RC5013"


class ScopeGone(NotFound):
    """The scope itself (repository, workspace, organization) answers 404: gone or out of reach. It never means "deleted"."""

    code = "RC5014"
    needs_action = True
    out_of_reach = True


class Conflict(ProviderError):
    code = "RC5015"
    needs_action = True


class ValidationFailed(ProviderError):
    code = "RC5016"
    retry = RetryKind.SPEC


class Declined(ValidationFailed):
    """Refused, and no manifest can fix it: a limit, a quota, a lock, a suspended account, a proxy. The write had no effect."""

    code = "RC5050"
    retry = RetryKind.BACKOFF


class RateLimited(ProviderError):
    code = "RC5017"
    retry = RetryKind.AT
    stops_integration = True


class Moved(ProviderError):
    code = "RC5018"

    def __init__(self, message: str, *, target: str, within: bool = False, **details: object) -> None:
        super().__init__(message, **details)  # type: ignore[arg-type]
        self.target = target
        self.within = within
        """The answer names an object below our own API root, whatever its host is."""


class ProviderUnavailable(ProviderError):
    code = "RC5019"


class OutcomeUnknown(ProviderError):
    code = "RC5020"
    unknown_outcome = True


class ProviderProtocolError(ProviderError):
    code = "RC5021"


class ListTooLarge(ProviderProtocolError):
    """The pages of one list hold more bytes, or more items, than one list may."""

    code = "RC5051"


class TLSFailed(ProviderError):
    code = "RC5022"
    needs_action = True


class AddressRefused(ProviderError):
    code = "RC5023"
    retry = RetryKind.SPEC


class Ambiguous(ProviderError):
    """Several runs could be the one that was started. None is chosen, and none is started again."""

    code = "RC5024"
    retry = RetryKind.SPEC
