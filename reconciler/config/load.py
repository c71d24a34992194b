"""The daemon's configuration: `Config` is all of it, `load_config` reads it from a file, the environment and the command line.

The keys are the table in `reconciler.config.settings`; each is also ``RECONCILER_`` + its path in capitals
(``server.publicUrl`` → ``RECONCILER_SERVER_PUBLIC_URL``). Relative paths are relative to the configuration file.
An unknown key is an error.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from reconciler.config.checks import check
from reconciler.config.settings import BY_PATH, KEYS, SECTIONS, Key, shown
from reconciler.config.values import PACE_KEYS, ApiToken, Pace, absolute, is_folder, parse_duration, parse_size, whole
from reconciler.model.errors import ConfigError
from reconciler.model.resources import Location

FILE_NAME = "reconciler.yaml"
_OURS = re.compile("RECONCILER_(" + "|".join(sorted({key.variable.split("_")[1] for key in KEYS if "." in key.path})) + ")_")
_CLUSTER = re.compile(r"_(SERVICE_(HOST|PORT\w*)|PORT|PORT_\d+_\w+)")
"""Kubernetes sets such variables for every service of a namespace: one of them may be called reconciler-state."""


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
    url: str = field(default="sqlite:///state/state.db", repr=False)
    """May hold a password."""


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
    proxy: str = field(default="", repr=False)
    """May hold a password."""


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
    def own_files(self) -> tuple[Path, ...]:
        """Credentials of the daemon itself: no manifest may read them as secrets."""
        named = (self.source.token_file, self.source.ssh_key_file, self.master_key.file, self.master_key.previous_file)
        return tuple(Path(path) for path in named if path)

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
        return dataclasses.replace(
            self,
            state=StateConfig(f"sqlite:///{folder / 'state.db'}"),
            master_key=MasterKeyConfig(str(folder / "master.key")),
            status=dataclasses.replace(self.status, file=str(folder / "status.json")),
        )

    def describe(self) -> tuple[tuple[str, str, str, str, str], ...]:
        """Return (key, type, value, variable, meaning) of every key.

        What may hold a secret is shown only as it is by default.
        """
        defaults = Config()
        return tuple(
            (key.path, key.kind, shown(_get(defaults if key.secret else self, key.attribute), key), key.variable, key.text)
            for key in KEYS
        )


def load_config(path: Path | None, env: Mapping[str, str], *, overrides: Mapping[str, Any] | None = None) -> Config:
    """Return the configuration; raises `ConfigError` with every problem at once (``details``), and changes nothing.

    ``path`` None: ``./reconciler.yaml`` if there is one, else the defaults. ``overrides`` (by key path, as the command line has
    them) win over the environment, which wins over the file.
    """
    chosen = path if path is not None else (Path(FILE_NAME) if Path(FILE_NAME).is_file() else None)
    # Not resolve(): a mounted file is a link into a folder that is replaced whole; its own place is the stable one.
    base = chosen.absolute().parent if chosen is not None else Path.cwd()
    loader = _Loader(base)
    if chosen is not None:
        loader.file(chosen)
    loader.environment(env)
    for name, value in (overrides or {}).items():
        if name in BY_PATH:
            loader.take(BY_PATH[name], value, Location("the command line"), base=Path.cwd())
        else:
            loader.unknown(name, Location("the command line"))
    config = _build(loader.values, base, str(chosen.absolute()) if chosen is not None else "")
    faults = loader.faults + [
        (loader.places.get(name, Location(str(chosen or "configuration"))), f"{name}: {message}")
        for name, message in check(config)
    ]
    if faults:
        raise _failed(faults)
    return config


def _failed(faults: list[tuple[Location, str]]) -> ConfigError:
    hint = "docs/configuration.md lists every key."
    if len(faults) == 1:
        return ConfigError(faults[0][1], location=faults[0][0], hint=hint)
    error = ConfigError(f"{len(faults)} problems in the configuration", hint=hint)
    error.details = tuple(f"{place}: {message}" for place, message in faults)
    return error


class _Loader:
    """Values by attribute as they come in, the later over the earlier, and everything that is wrong."""

    def __init__(self, base: Path) -> None:
        self.values: dict[str, Any] = {}
        self.places: dict[str, Location] = {}
        self.faults: list[tuple[Location, str]] = []
        self._base = base

    def file(self, path: Path) -> None:
        """Take every leaf of the file."""
        from reconciler.config_file import read_tree

        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise ConfigError(
                f"there is no configuration file {path}", hint="--config names it; `reconciler init` writes one."
            ) from None
        except OSError as error:
            raise ConfigError(f"the configuration file {path} cannot be read: {error.strerror}") from None
        tree = read_tree(str(path), data)
        self.faults += tree.problems
        self._section(tree.root, "", tree.places)

    def _section(self, rows: Mapping[str, Any], prefix: str, places: Mapping[str, Location]) -> None:
        for name, value in rows.items():
            path = f"{prefix}{name}"
            if path in BY_PATH:
                if value is not None:  # `key:` with nothing behind it is the default
                    self.take(BY_PATH[path], value, places[path])
            elif path not in SECTIONS or "." in name:
                self.unknown(path, places[path])
            elif isinstance(value, dict):
                self._section(value, path + ".", places)
            elif value is not None:
                self.faults.append((places[path], f"{path}: a mapping is wanted"))

    def unknown(self, path: str, place: Location) -> None:
        """Note an unknown key, with the nearest one that there is."""
        section, dot, _ = path.rpartition(".")
        beside = [key for key in (*BY_PATH, *SECTIONS) if key.rpartition(".")[0] == section]
        near = difflib.get_close_matches(path, beside, n=1, cutoff=0.85 if dot else 0.6)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        if not near and section in SECTIONS:
            hint = f"; {section!r} has: {', '.join(sorted(key.rpartition('.')[2] for key in beside))}"
        self.faults.append((place, f"unknown key {path!r}{hint}"))

    def environment(self, env: Mapping[str, str]) -> None:
        """Take every key's variable; a variable below a section that is no key's is an error, like an unknown key."""
        known = set()
        for key in KEYS:
            known |= {key.variable} if key.is_path else {key.variable, f"{key.variable}_FILE"}
            if key.variable in env:
                self.take(key, env[key.variable], Location(key.variable), base=Path.cwd())
            if not key.is_path and f"{key.variable}_FILE" in env:
                self._from_file(key, f"{key.variable}_FILE", env)
        given = self.values.get("secrets.env", SecretsConfig().env)
        for name in sorted(set(env) - known):
            if name.startswith("RECONCILER_PACE_"):
                self._pace(name, env[name])
            elif not _OURS.match(name) or _CLUSTER.search(name) or any(fnmatchcase(name, pattern) for pattern in given):
                continue
            else:
                near = difflib.get_close_matches(name, sorted(known), n=1)
                self.faults.append((Location(name), "no key has this variable" + (f"; did you mean {near[0]}?" if near else "")))

    def _from_file(self, key: Key, variable: str, env: Mapping[str, str]) -> None:
        if key.variable in env:
            self.faults.append((Location(variable), f"{key.path} is given twice: {key.variable} is set as well"))
            return
        path = Path.cwd() / Path(env[variable]).expanduser()
        try:
            self.take(key, path.read_text(encoding="utf-8").strip(), Location(variable), base=Path.cwd())
        except (OSError, UnicodeDecodeError) as error:
            self.faults.append((Location(variable), f"{path} cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}"))

    def _pace(self, name: str, value: str) -> None:
        """Take ``RECONCILER_PACE_<PROVIDER>_<KEY>``."""
        for attribute in PACE_KEYS.values():
            provider = name.removeprefix("RECONCILER_PACE_").removesuffix("_" + attribute.upper()).lower()
            if name.endswith("_" + attribute.upper()) and provider:
                paces = dict(self.values.get("pace", {}))
                try:
                    paces[provider] = dataclasses.replace(paces.get(provider, Pace()), **{attribute: whole(value)})
                except ConfigError as error:
                    self.faults.append((Location(name), error.message))
                self.values["pace"] = paces
                return
        self.faults.append((Location(name), f"no key has this variable; known below a provider: {', '.join(PACE_KEYS)}"))

    def take(self, key: Key, value: Any, place: Location, *, base: Path | None = None) -> None:
        """Read one value and make its path absolute, or note what is wrong with it (never the value itself)."""
        self.places[key.path] = place
        try:
            read = key.read(value)
        except ConfigError as error:
            self.faults.append((place, f"{key.path}: {error.message}" + (f". {error.hint}" if error.hint else "")))
            return
        root = base if base is not None else self._base
        if key.path == "state.url" and read.startswith("sqlite:///"):
            read = f"sqlite:///{absolute(root, read.removeprefix('sqlite:///'))}"
        elif read and (key.is_path or (key.path == "source.url" and is_folder(read))):
            read = absolute(root, read)
        self.values[key.attribute] = read


def _build(values: Mapping[str, Any], base: Path, path: str) -> Config:
    config = Config(path=path)
    for key in KEYS:
        value = values.get(key.attribute, _get(config, key.attribute))
        if key.attribute not in values and value:  # defaults that are relative paths
            if key.is_path:
                value = absolute(base, value)
            elif key.path == "state.url":
                value = f"sqlite:///{absolute(base, value.removeprefix('sqlite:///'))}"
        config = _with(config, key.attribute.split("."), value)
    return config if config.owner else dataclasses.replace(config, owner=default_owner(config.source))


def reference_rows() -> tuple[tuple[str, str, str, str, str], ...]:
    """Return (key, type, default, variable, meaning) of every key: what docs/configuration.md is made of."""
    return Config().describe()


def default_owner(source: SourceConfig) -> str:
    """Return the owner where none is configured: a hash of the source, so that two never claim each other's objects."""
    text = "\0".join(("reconciler/owner/v1", source.url, source.branch, source.path))
    return "o" + hashlib.sha256(text.encode()).hexdigest()[:11]


def _with(node: Any, path: list[str], value: Any) -> Any:
    inner = value if len(path) == 1 else _with(getattr(node, path[0]), path[1:], value)
    return dataclasses.replace(node, **{path[0]: inner})


def _get(node: Any, attribute: str) -> Any:
    for part in attribute.split("."):
        node = getattr(node, part)
    return node


__all__ = ["KEYS", "ApiToken", "Config", "Pace", "default_owner", "load_config", "parse_duration", "parse_size", "reference_rows"]
