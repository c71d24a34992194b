"""The daemon's configuration: one table of keys that drives loading, the environment, checks and docs/configuration.md.

Every key is also ``RECONCILER_`` + its path in capitals (``server.publicUrl`` → ``RECONCILER_SERVER_PUBLIC_URL``); every key
that names a secret file is ``…_FILE``. Relative paths are relative to the configuration file. An unknown key is an error.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from reconciler.model.errors import ConfigError
from reconciler.model.resources import Location

FILE_NAME = "reconciler.yaml"
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB|KB|MB|GB)?")
_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_OWNER = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Verify:
    """``source.verify``: only revisions signed by an allowed signer go live."""

    mode: str = ""
    allowed_signers_file: str = ""
    revocation_file: str = ""
    principals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceConfig:
    url: str = ""
    branch: str = "main"
    path: str = "."
    interval: float = 60.0
    token_file: str = ""
    ssh_key_file: str = ""
    known_hosts_file: str = ""
    verify: Verify = Verify()
    require_fast_forward: bool = False
    allow_empty: bool = False


@dataclass(frozen=True, slots=True)
class StateConfig:
    url: str = "sqlite:///state/state.db"


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A bearer token of the API, kept as its hash."""

    name: str
    sha256: str
    role: str


@dataclass(frozen=True, slots=True)
class ServerConfig:
    listen: str = "127.0.0.1:8080"
    public_url: str = ""
    max_body: int = 25 << 20
    tokens: tuple[ApiToken, ...] = ()


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    delete_percent: int = 30
    delete_minimum: int = 3
    delete_max: int = 25


@dataclass(frozen=True, slots=True)
class ReconcileConfig:
    interval: float = 300.0
    settle: float = 60.0
    retry_min: float = 1.0
    retry_max: float = 900.0
    concurrency: int = 64
    prune: bool = True
    limits: LimitsConfig = LimitsConfig()


@dataclass(frozen=True, slots=True)
class SecretsConfig:
    env: tuple[str, ...] = ("RECONCILER_SECRET_*",)
    folder: str = "secrets"
    sops: Mapping[str, Any] = field(default_factory=dict)
    vault: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    allow: tuple[str, ...] = ()
    ca_bundle: str = ""
    proxy: str = ""


@dataclass(frozen=True, slots=True)
class Pace:
    """Limits of one provider as an operator sets them; 0 is "none"."""

    writes_per_minute: int = 0
    writes_per_hour: int = 0
    points_per_minute: int = 0


@dataclass(frozen=True, slots=True)
class RetentionConfig:
    inbox: float = 7 * 86_400.0
    history: float = 90 * 86_400.0


@dataclass(frozen=True, slots=True)
class StatusConfig:
    file: str = "state/status.json"
    heartbeat: float = 10.0


@dataclass(frozen=True, slots=True)
class LogConfig:
    format: str = "auto"
    level: str = "info"


@dataclass(frozen=True, slots=True)
class MasterKeyConfig:
    file: str = "state/master.key"
    previous_file: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that is configured; paths are absolute, times are seconds, sizes are bytes."""

    owner: str = ""
    source: SourceConfig = SourceConfig()
    state: StateConfig = StateConfig()
    server: ServerConfig = ServerConfig()
    reconcile: ReconcileConfig = ReconcileConfig()
    secrets: SecretsConfig = SecretsConfig()
    network: NetworkConfig = NetworkConfig()
    pace: Mapping[str, Pace] = field(default_factory=dict)
    retention: RetentionConfig = RetentionConfig()
    status: StatusConfig = StatusConfig()
    log: LogConfig = LogConfig()
    master_key: MasterKeyConfig = MasterKeyConfig()
    sandbox: bool = False
    path: str = ""
    """The file it was read from; empty where there was none."""

    @property
    def file_name(self) -> str:
        """Name of the configuration file, which is no manifest when it lies among them."""
        return Path(self.path).name if self.path else FILE_NAME

    @property
    def state_dir(self) -> Path:
        """Folder of everything that is kept: the database, the mirror, the lock, the admin socket."""
        if self.state.url.startswith("sqlite:///"):
            return Path(self.state.url.removeprefix("sqlite:///")).parent
        return Path(self.status.file).parent

    @property
    def state_exists(self) -> bool:
        """Whether there is a state to open (always, where it is a database server)."""
        return not self.state.url.startswith("sqlite:///") or Path(self.state.url.removeprefix("sqlite:///")).exists()

    @property
    def engine_url(self) -> str:
        """Where the engine's own, disposable tables lie: beside the state."""
        if self.state.url.startswith("sqlite:///"):
            return f"sqlite:///{self.state_dir / 'engine.db'}"
        return self.state.url

    def with_state(self, folder: Path) -> Config:
        """Return the same configuration on an empty state in ``folder``."""
        return dataclasses.replace(self, state=StateConfig(f"sqlite:///{folder / 'state.db'}"), master_key=MasterKeyConfig(str(folder / "master.key")),
                                   status=dataclasses.replace(self.status, file=str(folder / "status.json")))

    def source_options(self) -> Any:
        """Return what `reconciler.source.open_source` needs."""
        from reconciler.source.options import SourceOptions, VerifyMode, VerifyOptions

        source, network = self.source, self.network
        verify = None
        if source.verify.mode or source.verify.allowed_signers_file:
            verify = VerifyOptions(Path(source.verify.allowed_signers_file), VerifyMode(source.verify.mode or "HEAD"),
                                   Path(source.verify.revocation_file) if source.verify.revocation_file else None, source.verify.principals)
        return SourceOptions(url=source.url, branch=source.branch, path=source.path, token_file=_path(source.token_file), ssh_key_file=_path(source.ssh_key_file),
                             known_hosts_file=_path(source.known_hosts_file), require_fast_forward=source.require_fast_forward, allow_empty=source.allow_empty,
                             allow_hosts=network.allow, verify=verify, config_name=self.file_name, ca_bundle=_path(network.ca_bundle), proxy=network.proxy)


def _path(text: str) -> Path | None:
    return Path(text) if text else None


# -- values -------------------------------------------------------------------------------------------------------------


def parse_duration(text: str) -> float:
    """Return seconds of ``90s``, ``5m``, ``1h30m``, ``7d``; raises `ConfigError`."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not text.strip():
        raise ConfigError(f"{text!r} is no duration", hint="Write it like 90s, 5m, 1h30m or 7d.")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return days * 86_400 + hours * 3_600 + minutes * 60 + seconds


def parse_size(text: str) -> int:
    """Return bytes of ``25MiB``, ``64KiB``, ``1000``; raises `ConfigError`."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is no size", hint="Write it like 25MiB or 64KiB.")
    return int(match.group(1)) * _UNITS[match.group(2) or ""]


def _duration(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ConfigError("a duration is wanted, like 5m")
    return float(value) if isinstance(value, int | float) else parse_duration(value)


def _size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ConfigError("a size is wanted, like 25MiB")
    return value if isinstance(value, int) else parse_size(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError("text is wanted")
    return value


def _whole(value: Any) -> int:
    try:
        number = int(value) if not isinstance(value, bool | float) else None
    except (TypeError, ValueError):
        number = None
    if number is None or number < 0:
        raise ConfigError("a whole number of 0 or more is wanted")
    return number


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise ConfigError("true or false is wanted")


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    raise ConfigError("a list of texts is wanted")


def _one_of(*words: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in words:
            raise ConfigError(f"one of {', '.join(words)} is wanted")
        return str(value)

    return check


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError("a mapping is wanted")
    return value


def _paces(value: Any) -> Mapping[str, Pace]:
    names = {"writesPerMinute": "writes_per_minute", "writesPerHour": "writes_per_hour", "pointsPerMinute": "points_per_minute"}
    found: dict[str, Pace] = {}
    for provider, row in _mapping(value).items():
        unknown = [key for key in _mapping(row) if key not in names]
        if unknown:
            raise ConfigError(f"unknown key {provider}.{unknown[0]}; known: {', '.join(names)}")
        found[str(provider)] = Pace(**{names[key]: _whole(number) for key, number in row.items()})
    return found


def _tokens(value: Any) -> tuple[ApiToken, ...]:
    rows = []
    for row in value if isinstance(value, list) else [None]:
        if not isinstance(row, dict) or set(row) != {"name", "sha256", "role"}:
            raise ConfigError("each token is {name, sha256, role}")
        if not re.fullmatch(r"[0-9a-f]{64}", str(row["sha256"])):
            raise ConfigError(f"token {row['name']}: sha256 is the hex SHA-256 of the token, not the token")
        rows.append(ApiToken(str(row["name"]), str(row["sha256"]), _one_of("viewer", "operator", "approver")(row["role"])))
    return tuple(rows)


@dataclass(frozen=True, slots=True)
class Key:
    """One key: where it stands in the file and in `Config`, how it is read, what it means."""

    path: str
    attribute: str
    kind: str
    read: Callable[[Any], Any]
    text: str
    is_path: bool = False

    @property
    def variable(self) -> str:
        """The environment variable: capitals, words parted by underscores."""
        words = [re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", part) for part in self.path.split(".")]
        return "RECONCILER_" + "_".join(words).upper()


KEYS: tuple[Key, ...] = (
    Key("owner", "owner", "text", _text, "Whose objects these are: part of every marker. Default: a hash of source URL, branch and path."),
    Key("source.url", "source.url", "URL or folder", _text, "Where the manifests are: https, ssh, or a local folder."),
    Key("source.branch", "source.branch", "text", _text, "The branch that is followed."),
    Key("source.path", "source.path", "path in the repository", _text, "Only manifests below this folder."),
    Key("source.interval", "source.interval", "duration", _duration, "How often a remote is asked for a new commit (±5 % jitter)."),
    Key("source.auth.tokenFile", "source.token_file", "file", _text, "Token for https; read again at every fetch.", is_path=True),
    Key("source.auth.sshKeyFile", "source.ssh_key_file", "file", _text, "Private key for ssh.", is_path=True),
    Key("source.auth.knownHostsFile", "source.known_hosts_file", "file", _text, "Host keys for ssh; an unknown host is refused.", is_path=True),
    Key("source.verify.mode", "source.verify.mode", "HEAD, Range", _one_of("HEAD", "Range"), "Which commits must be signed: the newest, or all since the last accepted one."),
    Key("source.verify.allowedSignersFile", "source.verify.allowed_signers_file", "file", _text, "Allowed signers (ssh-keygen(1)); never read from the repository.", is_path=True),
    Key("source.verify.revocationFile", "source.verify.revocation_file", "file", _text, "Revoked keys (ssh-keygen KRL).", is_path=True),
    Key("source.verify.principals", "source.verify.principals", "list", _texts, "Who of the allowed signers may sign; empty: any of them."),
    Key("source.requireFastForward", "source.require_fast_forward", "true, false", _flag, "Refuse a rewritten history instead of reporting it."),
    Key("source.allowEmpty", "source.allow_empty", "true, false", _flag, "Accept a revision without a single manifest, which prunes everything."),
    Key("state.url", "state.url", "URL", _text, "sqlite:///PATH, or postgresql+psycopg://…"),
    Key("server.listen", "server.listen", "host:port", _text, "Where the daemon listens; port 0 picks a free one."),
    Key("server.publicUrl", "server.public_url", "URL", _text, "Where providers reach this daemon: the root of every webhook URL."),
    Key("server.maxBody", "server.max_body", "size", _size, "Largest event body that is read."),
    Key("server.tokens", "server.tokens", "list of {name, sha256, role}", _tokens, "Bearer tokens of the API, as SHA-256; roles viewer, operator, approver."),
    Key("reconcile.interval", "reconcile.interval", "duration", _duration, "How often drift is looked for."),
    Key("reconcile.settle", "reconcile.settle", "duration", _duration, "How long after a write of unknown outcome an absence is not yet believed."),
    Key("reconcile.retry.min", "reconcile.retry_min", "duration", _duration, "First pause after a failure; doubled each time."),
    Key("reconcile.retry.max", "reconcile.retry_max", "duration", _duration, "Longest pause after a failure."),
    Key("reconcile.concurrency", "reconcile.concurrency", "number", _whole, "Scopes that are read side by side, for each integration."),
    Key("reconcile.prune", "reconcile.prune", "true, false", _flag, "Delete what is no longer declared."),
    Key("reconcile.limits.deletePercent", "reconcile.limits.delete_percent", "number", _whole, "Blocked: deletes of more than this share of what is owned on an integration; 0: off."),
    Key("reconcile.limits.deleteMinimum", "reconcile.limits.delete_minimum", "number", _whole, "Fewer deletes than this are never over deletePercent; 0: the percentage is off."),
    Key("reconcile.limits.deleteMax", "reconcile.limits.delete_max", "number", _whole, "Blocked: more deletes than this on one integration; 0: off."),
    Key("secrets.env", "secrets.env", "list", _texts, "Names of environment variables that a Secret may name (shell patterns)."),
    Key("secrets.folder", "secrets.folder", "folder", _text, "Where Secrets of provider file lie.", is_path=True),
    Key("secrets.sops", "secrets.sops", "mapping", _mapping, "Settings of the sops provider (not part of this version)."),
    Key("secrets.vault", "secrets.vault", "mapping", _mapping, "Settings of the vault provider (not part of this version)."),
    Key("network.allow", "network.allow", "list", _texts, "Hosts or CIDRs beyond the providers' own; http and odd ports are allowed there."),
    Key("network.caBundle", "network.ca_bundle", "file", _text, "CA certificates to trust instead of the system's.", is_path=True),
    Key("network.proxy", "network.proxy", "URL", _text, "HTTP proxy; the environment's proxies are never used."),
    Key("pace", "pace", "mapping", _paces, "By provider: writesPerMinute, writesPerHour, pointsPerMinute. Default: the published limits; other hosts: none."),
    Key("retention.inbox", "retention.inbox", "duration", _duration, "How long received events are kept."),
    Key("retention.history", "retention.history", "duration", _duration, "How long the journal is kept. The audit log is never cut."),
    Key("status.file", "status.file", "file", _text, "The status file.", is_path=True),
    Key("status.heartbeat", "status.heartbeat", "duration", _duration, "The status file is written at least this often."),
    Key("log.format", "log.format", "auto, json, console", _one_of("auto", "json", "console"), "auto: console on a terminal, else JSON lines."),
    Key("log.level", "log.level", "debug, info, warning, error", _one_of("debug", "info", "warning", "error"), "Least level that is logged."),
    Key("masterKey.file", "master_key.file", "file", _text, "The master key (0600). Made where neither state nor key exists.", is_path=True),
    Key("masterKey.previousFile", "master_key.previous_file", "file", _text, "The key before a change of the master key.", is_path=True),
    Key("sandbox", "sandbox", "true, false", _flag, "Allow literal secrets (provider local); for trials only."),
)
_BY_PATH = {key.path: key for key in KEYS}


def load_config(path: Path | None, env: Mapping[str, str], *, overrides: Mapping[str, Any] | None = None) -> Config:
    """Return the configuration; raises `ConfigError` with every problem at once.

    ``path`` None: ``./reconciler.yaml`` if there is one, else the defaults. ``overrides`` (by key path) win over the environment, which wins over the file.
    """
    given, places, problems = _from_file(path)
    base = (path or Path(FILE_NAME)).resolve().parent
    chosen = path if path is not None else (Path(FILE_NAME) if Path(FILE_NAME).exists() else None)
    values: dict[str, Any] = {}
    for name, value in given.items():
        key = _BY_PATH.get(name)
        if key is None:
            near = difflib.get_close_matches(name, list(_BY_PATH), n=1)
            problems.append(f"{places.get(name, '')}: unknown key {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
            continue
        _take(key, value, values, problems, base, where=places.get(name, ""))
    for key in KEYS:
        if key.variable in env:
            _take(key, env[key.variable], values, problems, Path.cwd(), where=key.variable)
        elif not key.path.endswith("File") and f"{key.variable}_FILE" in env and not key.is_path:
            try:
                _take(key, Path(env[f"{key.variable}_FILE"]).read_text(encoding="utf-8").strip(), values, problems, Path.cwd(), where=f"{key.variable}_FILE")
            except OSError as error:
                problems.append(f"{key.variable}_FILE: {error.strerror}")
    for name, value in (overrides or {}).items():
        _take(_BY_PATH[name], value, values, problems, Path.cwd(), where="the command line")
    config = _build(values, base, str(chosen.resolve()) if chosen is not None else "")
    problems += _check(config)
    if problems:
        raise _failed(problems, chosen)
    return config


def _failed(problems: list[str], path: Path | None) -> ConfigError:
    error = ConfigError(problems[0] if len(problems) == 1 else f"{len(problems)} problems in the configuration", location=Location(str(path)) if path else None,
                        hint="docs/configuration.md lists every key.")
    error.details = tuple(problems) if len(problems) > 1 else ()  # type: ignore[attr-defined]
    return error


def _from_file(path: Path | None) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """Return the file's leaves by dotted path, their places, and what is wrong with it."""
    file = path if path is not None else Path(FILE_NAME)
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        if path is None:
            return {}, {}, []
        raise ConfigError(f"there is no configuration file {path}", hint="--config names it; `reconciler init` writes one.") from None
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    from reconciler.manifests.strict import load_mapping

    tree, positions, problems = load_mapping(str(file), data)
    leaves: dict[str, Any] = {}
    _flatten(tree, "", leaves)
    places = {name: f"{file}:{line}:{column}" for name, (line, column) in positions.items()}
    return leaves, places, list(problems)


def _flatten(tree: Mapping[str, Any], prefix: str, leaves: dict[str, Any]) -> None:
    for name, value in tree.items():
        path = f"{prefix}{name}"
        below = any(key.startswith(path + ".") for key in _BY_PATH)
        if isinstance(value, dict) and below and path not in _BY_PATH:
            _flatten(value, path + ".", leaves)
        elif value is not None:
            leaves[path] = value


def _take(key: Key, value: Any, values: dict[str, Any], problems: list[str], base: Path, *, where: str) -> None:
    try:
        read = key.read(value)
    except ConfigError as error:
        problems.append(f"{where}: {key.path}: {error.message}")
        return
    if key.is_path and read and not Path(read).is_absolute():
        read = str(base / Path(read).expanduser())
    if key.path == "state.url" and read.startswith("sqlite:///") and not read.startswith("sqlite:////"):
        read = f"sqlite:///{base / read.removeprefix('sqlite:///')}"
    if key.path == "source.url" and _is_folder(read):
        read = str((base / Path(read).expanduser()).resolve())
    values[key.attribute] = read


def _is_folder(url: str) -> bool:
    return "://" not in url and not re.match(r"[A-Za-z0-9._-]+@[A-Za-z0-9._-]+:", url) and bool(url)


def _build(values: Mapping[str, Any], base: Path, path: str) -> Config:
    config = Config(path=path)
    for attribute, value in values.items():
        config = _with(config, attribute.split("."), value)
    for key in KEYS:  # defaults that are relative paths
        if key.is_path and key.attribute not in values:
            current = _get(config, key.attribute)
            if current and not Path(current).is_absolute():
                config = _with(config, key.attribute.split("."), str(base / current))
    if "state.url" not in values:
        config = _with(config, ["state", "url"], f"sqlite:///{base / 'state' / 'state.db'}")
    if not config.owner:
        config = dataclasses.replace(config, owner=default_owner(config.source))
    return config


def default_owner(source: SourceConfig) -> str:
    """Return the owner where none is configured: a hash of source URL, branch and path, so that two never claim each other's objects."""
    text = "\0".join(("reconciler/owner/v1", source.url, source.branch, source.path))
    return "o" + hashlib.sha256(text.encode()).hexdigest()[:11]


def _with(node: Any, path: list[str], value: Any) -> Any:
    if len(path) == 1:
        return dataclasses.replace(node, **{path[0]: value})
    return dataclasses.replace(node, **{path[0]: _with(getattr(node, path[0]), path[1:], value)})


def _get(node: Any, attribute: str) -> Any:
    for part in attribute.split("."):
        node = getattr(node, part)
    return node


def _check(config: Config) -> list[str]:
    """What no single value shows."""
    problems = []
    if config.owner and not _OWNER.fullmatch(config.owner):
        problems.append(f"owner: {config.owner!r} is not lower-case letters, digits and dashes (32 at most)")
    if "@" in urlsplit(config.source.url).netloc and not config.source.url.startswith("ssh://"):
        problems.append("source.url: holds a user name or a token; put it into a file and name it in source.auth.tokenFile")
    host, _, port = config.server.listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        problems.append(f"server.listen: {config.server.listen!r} is not host:port")
    public = urlsplit(config.server.public_url)
    if config.server.public_url and (public.scheme not in {"https", "http"} or not public.hostname or public.query or public.fragment or "@" in public.netloc):
        problems.append(f"server.publicUrl: {config.server.public_url!r} is not https://HOST[/PATH]")
    if not config.state.url.startswith(("sqlite:///", "postgresql+psycopg://")):
        problems.append("state.url: sqlite:///PATH or postgresql+psycopg://… is wanted")
    if config.reconcile.retry_min <= 0 or config.reconcile.retry_max < config.reconcile.retry_min:
        problems.append("reconcile.retry: 0 < min ≤ max is wanted")
    if config.reconcile.interval <= 0 or config.source.interval <= 0 or config.status.heartbeat <= 0:
        problems.append("an interval of 0 is not wanted")
    if config.reconcile.concurrency < 1:
        problems.append("reconcile.concurrency: at least 1 is wanted")
    return problems


def reference_rows() -> list[tuple[str, str, str, str, str]]:
    """Return (key, type, default, variable, meaning) of every key: what docs/configuration.md is made of."""
    defaults = Config()
    return [(key.path, key.kind, _shown(_get(defaults, key.attribute)), key.variable, key.text) for key in KEYS]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _shown_duration(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    if isinstance(value, Mapping):
        return "{}"
    return str(value) if not isinstance(value, int) or value < 1 << 20 else f"{value >> 20}MiB"


def _shown_duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size and seconds % size == 0 and not (unit == "m" and seconds == 60):
            return f"{int(seconds // size)}{unit}"
    return f"{seconds:g}s"
