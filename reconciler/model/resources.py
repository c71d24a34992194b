"""Resources: manifests after parsing and validation, before compiling."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Struct

from reconciler.model.values import JsonObject, Uid, uid_of

T = TypeVar("T")


class Kind(enum.StrEnum):
    """The kinds of manifests."""

    CANVAS = "Canvas"
    SECRET = "Secret"
    INTEGRATION = "Integration"
    EVENT_SOURCE = "EventSource"
    BUDDY_INTEGRATION = "BuddyIntegration"
    STAGE = "Stage"
    CONNECTION_GROUP = "ConnectionGroup"
    NOTIFICATION = "Notification"


@dataclass(frozen=True, slots=True, order=True)
class ResourceId:
    """(kind, canvas, name): the identity of a resource in one installation."""

    kind: str
    canvas: str
    name: str

    def __str__(self) -> str:
        """Render as users type it: ``EventSource/payments``, with ``@canvas`` where it is not ``default``."""
        return f"{self.kind}/{self.name}" + ("" if self.canvas == "default" else f"@{self.canvas}")

    def uid(self, owner: str) -> Uid:
        """Return the uid of this resource for ``owner``."""
        return uid_of(owner, self.kind, self.canvas, self.name)

    @property
    def path(self) -> str:
        """``kind/canvas/name``: the form used as a key in state and in addresses."""
        return f"{self.kind}/{self.canvas}/{self.name}"

    @classmethod
    def from_path(cls, path: str) -> ResourceId:
        """Inverse of `path`."""
        kind, canvas, name = path.split("/", 2)
        return cls(kind, canvas, name)


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A place in the repository. Lines and columns count from 1; 0 means unknown."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        """Render as ``file:line:column`` without unknown parts."""
        return ":".join([self.file, *(str(n) for n in (self.line, self.column) if n)])


class DeletionPolicy(enum.StrEnum):
    DELETE = "Delete"
    ORPHAN = "Orphan"


class Management(enum.StrEnum):
    FULL = "full"
    OBSERVE = "observe"
    NO_DELETE = "no-delete"
    CREATE_ONLY = "create-only"


class DriftMode(enum.StrEnum):
    REPAIR = "repair"
    WARN = "warn"
    IGNORE = "ignore"


class Adopt(enum.StrEnum):
    NEVER = "never"
    IF_IDENTICAL = "ifIdentical"
    ALWAYS = "always"


class IgnoreRule(Struct, frozen=True, omit_defaults=True):
    """One entry of ``lifecycle.ignore``: a JSON pointer into the managed object's attributes."""

    path: str
    until: str | None = None
    """RFC 3339 time at which the rule ends."""


class Suspension(Struct, frozen=True, omit_defaults=True):
    """A request for no writes: the reason, and (RFC 3339) the time at which it ends."""

    reason: str
    until: str | None = None


class Lifecycle(Struct, frozen=True, omit_defaults=True):
    """``spec.lifecycle`` (manifests.md): recorded at apply time, since at delete time the manifest is gone.

    A `Struct`, so that neither a stored row nor the digest of a spec contains the defaults.
    """

    deletion_policy: DeletionPolicy = DeletionPolicy.DELETE
    management: Management = Management.FULL
    drift: DriftMode = DriftMode.REPAIR
    adopt: Adopt = Adopt.NEVER
    replace_allowed: bool = False
    ignore: tuple[IgnoreRule, ...] = ()
    interval_s: float | None = None
    suspend: Suspension | None = None
    prevent_destroy: bool = False
    moved_from: str | None = None
    external_id: str | None = None


@dataclass(frozen=True, slots=True)
class SecretRef:
    """A reference to a key of a Secret resource; ``canvas``: that of the Secret (own canvas, else default)."""

    canvas: str
    name: str
    key: str

    def __str__(self) -> str:
        """Render as ``secret:name/key``."""
        return f"secret:{self.name}/{self.key}" + ("" if self.canvas == "default" else f"@{self.canvas}")


@dataclass(frozen=True, slots=True)
class DerivedKeyRef:
    """A webhook signing key: HKDF(signing, owner, uid, rotation). It is never stored."""

    uid: Uid
    rotation: int = 0

    def __str__(self) -> str:
        """Render as ``signing-key:rotation``."""
        return f"signing-key:{self.rotation}"


ValueRef = SecretRef | DerivedKeyRef


@dataclass(frozen=True, slots=True)
class Resource:
    """One valid manifest.

    ``spec`` is the document's spec in canonical form: enum aliases folded to the short form (``token``, ``event-source``,
    ``repository``), defaults left out, ``lifecycle`` removed (it is `lifecycle`), durations in seconds where a schema says so.
    ``references``: the resources that this one refers to (already resolved), which determine the order of work.
    """

    id: ResourceId
    spec: JsonObject
    location: Location
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    references: tuple[ResourceId, ...] = ()
    spec_digest: str = ""
    """Digest of canonical spec and lifecycle; ``generation`` counts its changes."""

    _typed: Any = field(default=None, init=False, repr=False, compare=False)

    def typed(self, kind: type[T]) -> T:
        """Return the spec as a ``kind`` (see `reconciler.manifests.kinds`), decoded once.

        Raises `msgspec.ValidationError` for the spec of another kind.
        """
        if type(self._typed) is not kind:
            object.__setattr__(self, "_typed", msgspec.convert(self.spec, kind))
        return cast("T", self._typed)

    def secret_refs(self, under: str = "") -> dict[str, SecretRef]:
        """Return every ``{valueFrom: {secret: {name, key}}}`` of the spec below the JSON pointer ``under``, by its pointer from there."""
        node: Any = self.spec
        for part in under.split("/")[1:]:
            node = node.get(part, {}) if isinstance(node, Mapping) else {}
        return dict(self._walk_secrets(node, ""))

    def _walk_secrets(self, node: Any, pointer: str) -> Iterator[tuple[str, SecretRef]]:
        if isinstance(node, Mapping):
            inner = node.get("valueFrom")
            secret = inner.get("secret") if isinstance(inner, Mapping) else None
            if isinstance(secret, Mapping):
                yield pointer, self._secret_ref(secret)
                return
            for key, value in node.items():
                yield from self._walk_secrets(value, f"{pointer}/{key}")
        elif isinstance(node, list | tuple):
            for index, value in enumerate(node):
                yield from self._walk_secrets(value, f"{pointer}/{index}")

    def _secret_ref(self, secret: Mapping[str, Any]) -> SecretRef:
        """Own canvas, then ``default``: the reference that validation resolved."""
        name = str(secret["name"])
        canvases = [r.canvas for r in self.references if r.kind == Kind.SECRET.value and r.name == name]
        canvas = canvases[0] if canvases and self.id.canvas not in canvases else self.id.canvas
        return SecretRef(canvas, name, str(secret["key"]))


def _folded(path: str) -> str:
    """Return ``path`` in a form that ignores case and the difference of ``.yml`` and ``.yaml``."""
    lower = path.lower()
    return f"{lower.removesuffix('.yml')}.yaml" if lower.endswith(".yml") else lower


@dataclass(frozen=True, slots=True)
class Unread:
    """What a revision contains and was not read: links, submodules, and files that are not manifests."""

    skipped: tuple[tuple[str, str], ...] = ()
    """(path, reason) of each path that was skipped."""
    files: frozenset[str] = frozenset()
    """Every other regular file."""
    folders: frozenset[str] = frozenset()
    """Every folder with a file."""

    def hides(self, file: str) -> tuple[str, str] | None:
        """Return the path that replaced the manifest ``file``, with the reason why it was not read; None if the file was deleted."""
        parts = file.split("/")
        above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        folded = {_folded(path) for path in above}
        skipped = next(((path, reason) for path, reason in self.skipped if _folded(path) in folded), None)
        if skipped is not None:
            return skipped
        if file in self.folders:
            return file, "is a folder now"
        return next(((path, "is a file now, and was a folder") for path in above[:-1] if path in self.files), None)


def is_encrypted_name(path: str) -> bool:
    """Whether ``path`` is named like a file that SOPS encrypted: it holds values of Secrets, and no manifests."""
    return path.endswith((".sops.yaml", ".sops.yml", ".sops.json"))


@dataclass(frozen=True, slots=True)
class EncryptedFile:
    """A file of Secret values, as it is in the repository. ``blob`` identifies its content."""

    blob: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Desired:
    """Everything that one revision declares: valid resources in a total order, and all problems.

    ``invalid``: resources whose document is identified but not valid: they keep their last valid spec and
    are never pruned. ``complete`` is False when there is any error: such a revision prunes nothing.
    """

    revision: str
    resources: tuple[Resource, ...]
    problems: tuple[Any, ...] = ()  # tuple[Problem, ...]; typed in manifests to avoid a cycle
    invalid: frozenset[ResourceId] = frozenset()
    withheld: bool = False
    """The source skipped a path with the name of a manifest (for example a symbolic link)."""
    unread: Unread = field(default_factory=lambda: Unread())
    encrypted: Mapping[str, EncryptedFile] = field(default_factory=dict)
    """Files that SOPS encrypted, by path."""

    @property
    def complete(self) -> bool:
        """Whether the revision may prune: it has no error and no path was skipped."""
        return not self.withheld and not any(problem.is_error for problem in self.problems)

    def by_id(self) -> dict[ResourceId, Resource]:
        """Return the resources keyed by identity."""
        return {resource.id: resource for resource in self.resources}
