"""The configuration and its keys. Each key is one field of `Config`: default, how its value is written, and what it means.

The loader, the environment variables and docs/configuration.md are derived from these fields: the path of a key is that of its
field in camel case (``server.public_url`` is ``server.publicUrl`` and ``RECONCILER_SERVER_PUBLIC_URL``). Pure.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints
from urllib.parse import urlsplit

from reconciler.config import values
from reconciler.config.values import ApiToken, LoginRole, RateLimit, camel

FILE_NAME = "reconciler.yaml"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ValueType:
    """How values of a key are written, read and shown."""

    name: str
    read: Callable[[object], object]
    show: Callable[[Any], str] = str
    is_path: bool = False
    """Relative to the configuration file."""


def _words(*known: str) -> ValueType:
    return ValueType(", ".join(known), values.one_of(*known))


_Text = Annotated[str, ValueType("text", values.text)]
_Url = Annotated[str, ValueType("URL", values.text)]
_File = Annotated[str, ValueType("file", values.text, is_path=True)]
_Number = Annotated[int, ValueType("number", values.whole)]
_Percent = Annotated[int, ValueType("number", values.percent)]
_Size = Annotated[int, ValueType("size", values.size, values.show_size)]
_Duration = Annotated[float, ValueType("duration", values.duration, values.show_duration)]
_Flag = Annotated[bool, ValueType("true, false", values.flag, lambda value: str(value).lower())]
_Pairs = Annotated[tuple[str, ...], ValueType("list of NAME=VALUE", values.pairs, values.show_texts)]
_List = Annotated[tuple[str, ...], ValueType("list", values.texts, values.show_texts)]


def _key(default: T, text: str, *, name: str = "", secret: bool = False) -> T:
    """Return a field that is a key. ``name``: below its section, where it is not that of the field; ``secret``: never shown."""
    metadata = {"text": text, "name": name, "secret": secret}
    if isinstance(default, Mapping):
        field: T = dataclasses.field(default_factory=dict, metadata=metadata, repr=not secret)  # type: ignore[assignment]
        return field
    return dataclasses.field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, slots=True)
class Verify:
    """Only revisions signed by an allowed signer are applied."""

    mode: Annotated[str, _words("HEAD", "Range")] = _key(
        "", "Which commits must be signed: the newest, or all since the last accepted one. Default with allowed signers: HEAD."
    )
    allowed_signers_file: _File = _key("", "Allowed signers (ssh-keygen(1)); never read from the repository.")
    revocation_file: _File = _key("", "Revoked keys (ssh-keygen KRL).")
    principals: _List = _key((), "The allowed signers that may sign; empty: all.")


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """Where the manifests come from."""

    url: Annotated[str, ValueType("URL or folder", values.text)] = _key(
        "", "Location of the manifests: an https or ssh URL without credentials, or a local folder."
    )
    branch: _Text = _key("main", "The branch to read.")
    path: Annotated[str, ValueType("path in the repository", values.text)] = _key(
        ".", "The folder of the manifests in the repository."
    )
    interval: _Duration = _key(60.0, "Interval at which a remote is fetched (±5 % jitter).")
    token_file: _File = _key("", "Token for https; read again at every fetch.", name="auth.tokenFile")
    ssh_key_file: _File = _key("", "Private key for ssh.", name="auth.sshKeyFile")
    known_hosts_file: _File = _key("", "Host keys for ssh; unknown hosts are rejected.", name="auth.knownHostsFile")
    verify: Verify = Verify()
    require_fast_forward: _Flag = _key(False, "Reject rewritten history instead of reporting it.")
    allow_empty: _Flag = _key(False, "Accept a revision without manifests, which deletes all objects.")


@dataclass(frozen=True, slots=True)
class StateConfig:
    """Where the daemon keeps its state."""

    url: _Url = _key(
        "sqlite:///state/state.db", "`sqlite:///PATH`, or `postgresql+psycopg://…` for several processes.", secret=True
    )


@dataclass(frozen=True, slots=True)
class OidcLoginConfig:
    """The OIDC provider by which people log in to the dashboard."""

    issuer: _Url = _key("", "Issuer (`iss`) of the provider, exactly as in its ID tokens.")
    client_id: _Text = _key(
        "", "Client id of the dashboard at the provider. Its redirect URI is `server.publicUrl` + `/login/oidc/callback`."
    )
    client_secret_file: _File = _key("", "Client secret; read at every login. Empty: a public client, protected by PKCE.")
    roles: Annotated[tuple[LoginRole, ...], ValueType("list of {claim, value, role}", values.login_roles, values.show_texts)] = (
        _key((), "Roles by claims of the ID token; the first match counts. People without a match are rejected.")
    )


@dataclass(frozen=True, slots=True)
class LoginConfig:
    """Login to the dashboard besides `server.tokens`."""

    oidc: OidcLoginConfig = OidcLoginConfig()


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The HTTP listener: webhooks, API, probes and metrics."""

    listen: Annotated[str, ValueType("host:port", values.text)] = _key(
        "127.0.0.1:8080", "Listen address; port 0 selects a free port."
    )
    public_url: _Url = _key(
        "",
        "Base URL of all webhooks, reachable by the providers. Must be https, except on loopback and for hosts in `network.allow`.",
    )
    max_body: _Size = _key(25 << 20, "Maximum size of an event body.")
    tokens: Annotated[tuple[ApiToken, ...], ValueType("list of {name, sha256, role}", values.tokens, values.show_texts)] = _key(
        (), "Bearer tokens of the API, as SHA-256; roles viewer, operator, approver.", secret=True
    )
    login: LoginConfig = LoginConfig()


@dataclass(frozen=True, slots=True)
class OidcConfig:
    """The OIDC issuer that this installation is, for integrations with ``auth.use: oidc`` and Secrets with ``vault.auth.use: oidc``."""

    issuer: _Url = _key(
        "",
        "Issuer (`iss`) of the daemon's ID tokens: an https URL without a final slash. Default: `server.publicUrl`. If it is another "
        "address, publish the files of `reconciler oidc export` there.",
    )
    key_rotation: _Duration = _key(
        90 * 86_400.0, "Age at which a signing key is replaced. Its successor is published 24 hours earlier."
    )
    token_lifetime: _Duration = _key(600.0, "Lifetime of an ID token.")


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """More deletes than this need an approval."""

    delete_percent: _Percent = _key(
        30, "Block the deletes of an integration if they exceed this percentage of its objects; 0: off."
    )
    delete_minimum: _Number = _key(3, "Apply `deletePercent` only from this number of deletes; 0: disables the percentage.")
    delete_max: _Number = _key(25, "Block the deletes of an integration if they exceed this number; 0: off.")


@dataclass(frozen=True, slots=True)
class ReconcileConfig:
    """How objects at the provider are changed to match the manifests."""

    interval: _Duration = _key(300.0, "Interval of drift detection.")
    settle: _Duration = _key(60.0, "Time after a write with unknown outcome until the absence of its object counts.")
    retry_min: _Duration = _key(1.0, "First delay after a failure; it doubles each time.", name="retry.min")
    retry_max: _Duration = _key(900.0, "Maximum delay after a failure.", name="retry.max")
    concurrency: _Number = _key(64, "Number of scopes to read in parallel, for each integration.")
    prune: _Flag = _key(True, "Delete objects that are no longer declared.")
    limits: LimitsConfig = LimitsConfig()


@dataclass(frozen=True, slots=True)
class SecretsConfig:
    """Where Secrets of the manifests may come from."""

    env: _List = _key(("RECONCILER_SECRET_*",), "Environment variables that a Secret can use (shell patterns).")
    folder: Annotated[str, ValueType("folder", values.text, is_path=True)] = _key(
        "secrets", "Folder of Secrets with provider `file`."
    )
    sops_age_key_file: _File = _key(
        "",
        "age identities (age-keygen) that open the files of Secrets with provider `sops`; read again at every use.",
        name="sops.ageKeyFile",
    )


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Which hosts may be reached, and how."""

    allow: _List = _key((), "Additional hosts or CIDRs that the daemon can reach; http and other ports are allowed there.")
    ca_bundle: _File = _key("", "CA certificates to trust instead of those of the system.")
    proxy: _Url = _key("", "HTTP proxy; proxies from the environment are not used.", secret=True)


@dataclass(frozen=True, slots=True)
class ReviewConfig:
    """Review of pull requests: an offline plan as a check and one comment."""

    integration: _Text = _key(
        "", "Integration that reads pull requests and writes checks, as `NAME` or `NAME@CANVAS`. Empty: no review."
    )
    repository: Annotated[str, ValueType("OWNER/NAME", values.text)] = _key(
        "", "The repository of the pull requests. Default: the path of `source.url`."
    )
    check: _Text = _key("reconciler/plan", "Name of the check run, or the context of the commit status.")
    comment: _Flag = _key(True, "Keep one comment with the plan in each pull request.")
    forks: Annotated[str, _words("offline", "off")] = _key(
        "offline", "offline: review pull requests of forks without secrets and provider calls; off: do not review them."
    )
    timeout: _Duration = _key(600.0, "Maximum time of one review; its check then ends as timed out.")
    approvers: _List = _key(
        (), "Logins that may approve blocked changes. Default: everyone with write access, except the author of the pull request."
    )
    interval: _Duration = _key(60.0, "Interval at which open pull requests are listed, in case an event was lost.")


@dataclass(frozen=True, slots=True)
class RetentionConfig:
    """How long rows are kept."""

    inbox: _Duration = _key(7 * 86_400.0, "Retention time of received events.")
    history: _Duration = _key(90 * 86_400.0, "Retention time of the journal. The audit log is never pruned.")


@dataclass(frozen=True, slots=True)
class StatusConfig:
    """The status file."""

    file: _File = _key("state/status.json", "The status file.")
    heartbeat: _Duration = _key(10.0, "Maximum time between two writes of the status file.")


@dataclass(frozen=True, slots=True)
class LogConfig:
    """The log on stderr."""

    format: Annotated[str, _words("auto", "json", "console")] = _key("auto", "auto: console on a terminal, else JSON lines.")
    level: Annotated[str, _words("debug", "info", "warning", "error")] = _key("info", "Minimum level to log.")


@dataclass(frozen=True, slots=True)
class TelemetryConfig:
    """Traces for OpenTelemetry. The standard variables (``OTEL_*``) give what is not set here."""

    enabled: _Flag = _key(False, "Record traces, and export them by OTLP over HTTP. Needs the extra `otel`.")
    endpoint: _Url = _key("http://localhost:4318/v1/traces", "URL that receives traces, with its path.")
    headers: _Pairs = _key((), "Headers of each export, mostly a credential.", secret=True)
    timeout: _Duration = _key(10.0, "Maximum time of one export.")
    compression: Annotated[str, _words("gzip", "none")] = _key("gzip", "Compression of exports.")
    service_name: _Text = _key("reconciler", "`service.name` of the traces.")
    attributes: _Pairs = _key((), "Further attributes of the resource, like `deployment.environment.name=prod`.")
    sample_ratio: Annotated[float, ValueType("number from 0 to 1", values.ratio)] = _key(1.0, "Share of traces to record.")
    incoming: Annotated[str, _words("link", "parent", "ignore")] = _key(
        "link", "`traceparent` of a verified delivery. link: its trace is linked; parent: the event joins it; ignore: nothing."
    )
    propagate: _List = _key((), "Hosts to which requests carry `traceparent`, like `deploy.example.com` or `*.example.com`.")


@dataclass(frozen=True, slots=True)
class MasterKeyConfig:
    """The key that all signing keys are derived from."""

    file: _File = _key("state/master.key", "The master key (mode 0600). Created if neither a state nor a key exists.")
    previous_file: _File = _key("", "The previous master key, during its replacement.")


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration; paths are absolute, times are seconds, sizes are bytes."""

    owner: _Text = _key("", "Name of this installation, part of every marker. Default: a hash of source URL, branch and path.")
    source: SourceConfig = SourceConfig()
    state: StateConfig = StateConfig()
    server: ServerConfig = ServerConfig()
    oidc: OidcConfig = OidcConfig()
    reconcile: ReconcileConfig = ReconcileConfig()
    secrets: SecretsConfig = SecretsConfig()
    network: NetworkConfig = NetworkConfig()
    rate_limits: Annotated[Mapping[str, RateLimit], ValueType("mapping", values.rate_limits, lambda _: "")] = _key(
        {},
        "Limits by provider: `writesPerMinute`, `writesPerHour`, `pointsPerMinute`. Default: the published limits, and none for other hosts.",
    )
    review: ReviewConfig = ReviewConfig()
    retention: RetentionConfig = RetentionConfig()
    status: StatusConfig = StatusConfig()
    log: LogConfig = LogConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    master_key: MasterKeyConfig = MasterKeyConfig()
    sandbox: _Flag = _key(False, "Allow literal secrets (provider `local`), for trials only.")
    path: str = ""
    """The file that it was read from; empty without one."""

    @property
    def file_name(self) -> str:
        """Name of the configuration file, which is not a manifest when it lies among them."""
        return Path(self.path or FILE_NAME).name

    @property
    def state_dir(self) -> Path:
        """Folder of the database, the mirror, the lock and the admin socket."""
        return (self._sqlite_file or Path(self.status.file)).parent

    @property
    def issuer(self) -> str:
        """The OIDC issuer of this installation; empty if there is none."""
        return self.oidc.issuer or self.own_issuer

    @property
    def own_issuer(self) -> str:
        """`server.publicUrl` in the form of an issuer: relying parties compare it byte by byte, and some write hosts in lower case."""
        parts = urlsplit(self.server.public_url.rstrip("/"))
        return parts._replace(netloc=parts.netloc.lower()).geturl()

    @property
    def own_files(self) -> tuple[Path, ...]:
        """Credentials of the daemon itself: no manifest may read them as secrets."""
        git, master = (self.source.token_file, self.source.ssh_key_file), (self.master_key.file, self.master_key.previous_file)
        named = (*git, *master, self.secrets.sops_age_key_file, self.server.login.oidc.client_secret_file)
        return tuple(Path(path) for path in named if path)

    @property
    def state_exists(self) -> bool:
        """Whether there is a state to open; always true for a database server."""
        database = self._sqlite_file
        return database is None or database.exists()

    @property
    def _sqlite_file(self) -> Path | None:
        url = self.state.url
        return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None

    def with_state(self, folder: Path) -> Config:
        """Return the same configuration on an empty state in ``folder``."""
        return dataclasses.replace(
            self,
            state=StateConfig(f"sqlite:///{folder / 'state.db'}"),
            master_key=MasterKeyConfig(str(folder / "master.key")),
            status=dataclasses.replace(self.status, file=str(folder / "status.json")),
        )

    def describe(self) -> tuple[tuple[str, str, str, str, str], ...]:
        """Return (path, type, value, variable, meaning) of every key; of a secret key the default."""
        defaults = Config()
        return tuple(
            (key.path, key.type.name, key.show(defaults if key.secret else self), key.variable, key.text) for key in KEYS
        )


@dataclass(frozen=True, slots=True)
class Key:
    """One key: its path in the file, its field in `Config`, how its value is read and what it means."""

    path: str
    attribute: str
    type: ValueType
    text: str
    secret: bool
    """May hold a secret: `Config.describe` does not show it."""

    @property
    def variable(self) -> str:
        """The environment variable: capitals, words separated by underscores."""
        return "RECONCILER_" + re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", self.path).replace(".", "_").upper()

    def of(self, config: Config) -> object:
        """Return the value that ``config`` has."""
        value: object = config
        for part in self.attribute.split("."):
            value = getattr(value, part)
        return value

    def show(self, config: Config) -> str:
        """Return the value as a user would write it; empty for none."""
        return self.type.show(self.of(config))


def _keys(section: type[Any], path: str = "", attribute: str = "") -> Iterator[Key]:
    types = get_type_hints(section, include_extras=True)
    for field in dataclasses.fields(section):
        own = f"{attribute}{field.name}"
        if dataclasses.is_dataclass(types[field.name]):
            yield from _keys(types[field.name], f"{path}{camel(field.name)}.", f"{own}.")
        elif field.metadata:
            name = field.metadata["name"] or camel(field.name)
            type_ = types[field.name].__metadata__[0]
            yield Key(path + name, own, type_, field.metadata["text"], field.metadata["secret"])


KEYS: tuple[Key, ...] = tuple(_keys(Config))
BY_PATH: Mapping[str, Key] = {key.path: key for key in KEYS}
SECTIONS = frozenset(".".join(key.path.split(".")[:n]) for key in KEYS for n in range(1, key.path.count(".") + 1))
"""Dotted paths that hold keys and no value: ``source``, ``source.auth``, …"""
