"""What a provider can do, as data: the types of the record that each provider's ``spec.py`` holds.

Manifests, planning, stages, events and the CLI read these records through `reconciler.drivers.specs`, so that nothing outside
this folder knows a provider by name. Only types of the model are imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from reconciler.model.specs import Spec

Path = tuple[str, ...]
"""Keys that lead to a value in JSON, outermost first."""

ANY = r"(?s:.*)"
"""Pattern of any text."""


@dataclass(frozen=True, slots=True)
class ProviderLimits:
    """A provider's published limits; 0 is "none"."""

    writes_per_minute: int = 0
    writes_per_hour: int = 0
    points_per_minute: int = 0
    read_points: int = 1
    write_points: int = 5
    concurrent: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRule:
    """How resources of one type are named. Patterns match the whole text."""

    pattern: str = ANY
    hint: str = ""
    match: str = ANY
    """Pattern of a valid glob in ``resource.match``; empty: resources of this type cannot be selected by a glob."""
    match_hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRule:
    """How ``spec.url`` of an Integration names the account."""

    what: str
    """What the account is called: ``GitHub account``."""
    example: str
    """A valid URL whose account is a word in capitals."""
    path: str = ""
    """Pattern of the URL's path, without the slashes at its ends; empty: the account is the first label of the host."""
    domain: str = ""
    """The provider's own domain, where the account is the only label before it and the URL has no path."""
    reserved: frozenset[str] = frozenset()
    """First parts of a path that are pages of the provider, never an account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorRule:
    """What ``spec.executor`` of a Stage needs to start a run."""

    resource: str
    """``resource.type``."""
    qualifier: str = ""
    """What comes before the slash in a full name: ``account`` (the Integration's), ``project`` (``spec.project``); empty: no slash."""
    titles: bool = False
    """Whether a resource has a title (free text) instead of an identifier."""
    required: tuple[str, ...] = ()
    """Keys of ``executor.spec`` of which one must be set."""
    hint: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other spellings of keys of ``executor.spec``."""
    most_keys: Mapping[str, int] = field(default_factory=dict)
    """How many keys a mapping in ``executor.spec`` may have."""
    most_keys_hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadPaths:
    """Where the payload of an event holds what stages need; the first path that leads to a value counts."""

    commit: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    """Event type → paths of the commit that the event is about."""
    ref: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    """Event type → paths of the Git reference."""
    message: tuple[Path, ...] = ()
    author: tuple[Path, ...] = ()
    sender: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRule:
    """How the objects of one managed type become manifests (``reconciler export``)."""

    type: str
    """The managed type."""
    resource: str = ""
    """``resource.type`` of the EventSource; empty: the manifest is of `kind` and its spec is the object."""
    kind: str = "EventSource"
    qualified: bool | None = None
    """Whether a scope of this type has a slash; None: any scope may be one."""
    account: bool = False
    """Whether the account is the scope where none is named."""
    names: tuple[Path, ...] = ()
    """Paths of the names of the resources that one object is for; ``*`` is every item. Empty: the scope is the resource."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectKind:
    """A kind of manifest whose spec is the body of one object of a single provider, in the provider's own spelling."""

    kind: str
    spec: type[Spec]
    """The type of its spec, in canonical form."""
    type_aliases: Mapping[str, str]
    key_aliases: Mapping[str, str]
    required: Mapping[tuple[str, str], tuple[tuple[str, ...], ...]]
    """(type, form of authentication or "") → keys that must be set; of several alternatives the one whose first key is given."""
    scope: str
    """The key that holds how widely the object is visible."""
    scopes: Mapping[str, str]
    """Value of `scope` → the key that goes with this value only; empty: none does. The last one is the default."""
    unless: Mapping[str, str] = field(default_factory=dict)
    """Key → the flag that must not be true beside it."""
    lists: Mapping[str, str] = field(default_factory=dict)
    """Key → what its items are called; an item may be given once."""
    people: Mapping[Path, str] = field(default_factory=dict)
    """The same for lists of people, who are given by id, name or e-mail address."""
    by_email: tuple[Path, ...] = ()
    """Lists whose people must not be given by display name, which is not unique."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerRule:
    """How requests of stages carry the identity of an Integration."""

    keys: tuple[str, ...]
    """Keys of ``auth`` that say more about the called service: ``audience``; ``service``, ``region``."""
    headers: tuple[str, ...] = ("authorization",)
    """Headers that the identity sets, in lower case: a manifest must not."""
    missing: Callable[[str, Mapping[str, str]], str] = lambda _host, _given: ""
    """(host, given keys) → the key without which no identity can be shown to ``host``; empty if none is missing. Pure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSpec:
    """All that is known of a provider without calling it."""

    name: str
    """``spec.type`` of an Integration."""
    title: str
    """How the provider spells its own name."""
    spellings: tuple[str, ...] = ()
    """Other accepted spellings of `name`."""
    auth: tuple[str, ...]
    """Accepted values of ``auth.use``."""
    why_not: Mapping[str, str] = field(default_factory=dict)
    """Why other values of ``auth.use`` cannot work."""
    oidc_needs: tuple[str, ...] = ()
    """Keys of ``auth.oidc`` without which this provider exchanges no ID token."""
    audience: str = ""
    """``aud`` of our ID tokens where the manifest names none; ``{key}`` is the value of that key of ``auth.oidc``."""
    needs_url: bool = False
    account: AccountRule | None = None
    hosts: tuple[str, ...] = ()
    """Hosts of the provider that need no ``network.allow``; ``*.example.com`` covers one label."""
    service_hosts: tuple[str, ...] = ()
    """Hosts at which the provider itself answers: a stage may send the credential there without ``network.allow``."""
    caller: CallerRule | None = None
    """How stages call services with an Integration's identity; None: its credential is for the provider's own API only."""
    exchange_audiences: tuple[str, ...] = ()
    """Audiences (or their beginnings, ending in ``*``) of ID tokens that the provider exchanges for its own credentials."""
    limits: ProviderLimits = ProviderLimits()
    sources: Mapping[str, NameRule] = field(default_factory=dict)
    """``resource.type`` of an EventSource → how such resources are named. Empty: the provider sends no events."""
    fold_names: bool = False
    """Whether names that differ only in case are the same name."""
    events: tuple[str, ...] = ()
    """Types of events that a webhook can subscribe to; empty: not known."""
    events_upper: bool = False
    """Whether event types are in capitals; manifests may use any case then."""
    payload: PayloadPaths = PayloadPaths()
    executor: ExecutorRule | None = None
    guarded: bool = False
    """Whether inputs of an executor reach a shell, so that text of events is checked before a run."""
    job_tokens: bool = False
    """Whether jobs have an OIDC token that names their run."""
    takes_statuses: bool = False
    """Whether commit statuses and deployments can be written back."""
    commit_page: str = ""
    """Path of the page of a commit on the host of ``spec.url``, with ``{repository}`` and ``{sha}``."""
    sink: str = ""
    """Key of a Notification's ``sink`` that writes to this provider."""
    objects: tuple[ObjectKind, ...] = ()
    export: tuple[ExportRule, ...] = ()
    stores_secrets: bool = False
    """Whether it keeps values for Secrets: ``spec.provider`` is then its name."""
    token_patterns: tuple[str, ...] = ()
    """Regular expressions of the provider's tokens, without capturing groups."""
