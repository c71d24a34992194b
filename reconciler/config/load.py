"""Reads the configuration from a file, the environment and the command line. The keys are the fields of `Config`.

Relative paths are relative to the configuration file. An unknown key is an error.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

from reconciler.config.checks import check
from reconciler.config.settings import BY_PATH, FILE_NAME, KEYS, SECTIONS, Config, Key, SecretsConfig, SourceConfig
from reconciler.config.values import RATE_LIMIT_KEYS, RateLimit, absolute, is_folder, whole
from reconciler.model.errors import ConfigError
from reconciler.model.resources import Location

_OURS = re.compile("RECONCILER_(" + "|".join(sorted({key.variable.split("_")[1] for key in KEYS if "." in key.path})) + ")_")
_CLUSTER = re.compile(r"_(SERVICE_(HOST|PORT\w*)|PORT|PORT_\d+_\w+)")
"""Kubernetes sets such variables for every service of a namespace, and one may be called reconciler-state."""
_COMMAND_LINE = Location("the command line")
_RATE_LIMITS = "rate_limits"
_RATE_LIMIT_VARIABLE = BY_PATH["rateLimits"].variable + "_"
_SQLITE = "sqlite:///"
S = TypeVar("S")


def load_config(path: Path | None, env: Mapping[str, str], *, overrides: Mapping[str, object] | None = None) -> Config:
    """Return the configuration; raises `ConfigError` with every problem at once (``details``).

    ``path`` None: ``./reconciler.yaml`` if it exists, else the defaults. ``overrides`` (by key path, from the command line) win
    over the environment, which wins over the file.
    """
    chosen = path if path is not None else (Path(FILE_NAME) if Path(FILE_NAME).is_file() else None)
    if chosen is not None and not chosen.is_absolute():
        _here()
    # Not resolve(): a mounted file is a link into a folder that is replaced whole; only the link's own place is stable.
    base = chosen.absolute().parent if chosen is not None else _here()
    loader = _Loader(base)
    if chosen is not None:
        loader.file(chosen)
    loader.environment(env)
    loader.standard(env)
    for name, value in (overrides or {}).items():
        if name in BY_PATH:
            loader.take(BY_PATH[name], value, _COMMAND_LINE, base=_here())
        else:
            loader.unknown(name, _COMMAND_LINE)
    config = loader.config(str(chosen.absolute()) if chosen is not None else "")
    problems = loader.problems + [
        (loader.places.get(name, Location(str(chosen or "configuration"))), f"{name}: {message}")
        for name, message in check(config)
    ]
    if problems:
        raise _invalid(problems)
    return config


def _invalid(problems: list[tuple[Location, str]]) -> ConfigError:
    hint = "docs/configuration.md lists every key."
    if len(problems) == 1:
        return ConfigError(problems[0][1], location=problems[0][0], hint=hint)
    error = ConfigError(f"{len(problems)} problems in the configuration", hint=hint)
    error.details = tuple(f"{place}: {message}" for place, message in problems)
    return error


def _here() -> Path:
    """Return the working folder, to which relative paths belong. Raises `ConfigError` if it was removed."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise ConfigError("the working folder does not exist any more", hint="Go to another folder with `cd`.") from None


class _Loader:
    """Collects values by attribute, the later over the earlier, and every problem."""

    def __init__(self, base: Path) -> None:
        self.values: dict[str, object] = {}
        self.places: dict[str, Location] = {}
        self.problems: list[tuple[Location, str]] = []
        self._base = base

    def file(self, path: Path) -> None:
        """Take every leaf of the file."""
        from reconciler.config.file import read_tree

        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise ConfigError(
                f"the configuration file {path} does not exist", hint="Set it with --config; `reconciler init` creates one."
            ) from None
        except OSError as error:
            raise ConfigError(f"the configuration file {path} cannot be read: {error.strerror}") from None
        tree = read_tree(str(path), data)
        self.problems += tree.problems
        self._section(tree.root, "", tree.places)

    def _section(self, rows: Mapping[str, object], prefix: str, places: Mapping[str, Location]) -> None:
        for name, value in rows.items():
            path = f"{prefix}{name}"
            if path in BY_PATH:
                if value is not None:  # `key:` without a value is the default
                    self.take(BY_PATH[path], value, places[path])
            elif path not in SECTIONS or "." in name:
                self.unknown(path, places[path])
            elif isinstance(value, dict):
                self._section(value, path + ".", places)
            elif value is not None:
                self.problems.append((places[path], f"{path}: must be a mapping"))

    def unknown(self, path: str, place: Location) -> None:
        """Report an unknown key, with the nearest known one."""
        section, dot, _ = path.rpartition(".")
        siblings = [key for key in (*BY_PATH, *SECTIONS) if key.rpartition(".")[0] == section]
        near = difflib.get_close_matches(path, siblings, n=1, cutoff=0.85 if dot else 0.6)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        if not near and section in SECTIONS:
            hint = f"; {section!r} has: {', '.join(sorted(key.rpartition('.')[2] for key in siblings))}"
        self.problems.append((place, f"unknown key {path!r}{hint}"))

    def environment(self, env: Mapping[str, str]) -> None:
        """Take every key's variable; an unknown variable below a section is an error, like an unknown key."""
        known = set()
        for key in KEYS:
            known |= {key.variable} if key.type.is_path else {key.variable, f"{key.variable}_FILE"}
            if key.variable in env:
                self.take(key, env[key.variable], Location(key.variable), base=_here())
            if not key.type.is_path and f"{key.variable}_FILE" in env:
                self._from_file(key, f"{key.variable}_FILE", env)
        self._unknown_variables(env, known)

    def _unknown_variables(self, env: Mapping[str, str], known: set[str]) -> None:
        secrets = self.values.get("secrets.env", SecretsConfig().env)
        patterns = secrets if isinstance(secrets, tuple) else ()
        for name in sorted(set(env) - known):
            if name.startswith(_RATE_LIMIT_VARIABLE):
                self._rate_limit(name, env[name])
            elif _OURS.match(name) and not _CLUSTER.search(name) and not any(fnmatchcase(name, one) for one in patterns):
                near = difflib.get_close_matches(name, sorted(known), n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                self.problems.append((Location(name), f"no key has this variable{hint}"))

    def standard(self, env: Mapping[str, str]) -> None:
        """Take the variables of OpenTelemetry for the keys of section ``telemetry`` that are not given, if it is on."""
        enabled = BY_PATH["telemetry.enabled"].attribute
        if not self.values.get(enabled):
            return
        from reconciler.config.otel import is_disabled, standard_values

        if is_disabled(env):
            self.values[enabled] = False
            return
        given = set(self.places)
        for each in standard_values(env):
            if each.path in given:
                continue
            if each.error:
                self.problems.append((Location(each.variable), each.error))
            else:
                self.take(BY_PATH[each.path], each.value, Location(each.variable))

    def _from_file(self, key: Key, variable: str, env: Mapping[str, str]) -> None:
        if key.variable in env:
            self.problems.append((Location(variable), f"{key.path} is given twice: {key.variable} is set as well"))
            return
        path = _here() / Path(env[variable]).expanduser()
        try:
            self.take(key, path.read_text(encoding="utf-8").strip(), Location(variable), base=_here())
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            self.problems.append((Location(variable), f"{path} cannot be read: {reason}"))

    def _rate_limit(self, name: str, value: str) -> None:
        """Take ``RECONCILER_RATE_LIMITS_<PROVIDER>_<KEY>``."""
        for attribute in RATE_LIMIT_KEYS.values():
            provider = name.removeprefix(_RATE_LIMIT_VARIABLE).removesuffix("_" + attribute.upper()).lower()
            if not name.endswith("_" + attribute.upper()) or not provider:
                continue
            current = self.values.get(_RATE_LIMITS)
            limits: dict[str, RateLimit] = dict(current) if isinstance(current, dict) else {}
            try:
                limits[provider] = dataclasses.replace(limits.get(provider, RateLimit()), **{attribute: whole(value)})
            except ConfigError as error:
                self.problems.append((Location(name), error.message))
            self.values[_RATE_LIMITS] = limits
            return
        known = ", ".join(RATE_LIMIT_KEYS)
        self.problems.append((Location(name), f"no key has this variable; known below a provider: {known}"))

    def take(self, key: Key, value: object, place: Location, *, base: Path | None = None) -> None:
        """Read one value and make its path absolute, or report its problem without the value."""
        self.places[key.path] = place
        try:
            read = key.type.read(value)
        except ConfigError as error:
            self.problems.append((place, f"{key.path}: {error.message}" + (f". {error.hint}" if error.hint else "")))
            return
        self.values[key.attribute] = _absolute(key, read, base if base is not None else self._base)

    def config(self, path: str) -> Config:
        """Return the configuration: what was taken over the defaults, whose relative paths are made absolute."""
        defaults = Config(path=path)
        taken = {key.attribute: self.values.get(key.attribute, _absolute(key, key.of(defaults), self._base)) for key in KEYS}
        config = _replaced(defaults, taken)
        return config if config.owner else dataclasses.replace(config, owner=default_owner(config.source))


def _absolute(key: Key, value: object, base: Path) -> object:
    """Return ``value`` with its path made absolute, where it is one."""
    if not isinstance(value, str) or not value:
        return value
    if key.path == "state.url":
        return _SQLITE + absolute(base, value.removeprefix(_SQLITE)) if value.startswith(_SQLITE) else value
    return absolute(base, value) if key.type.is_path or (key.path == "source.url" and is_folder(value)) else value


def _replaced(section: S, values: Mapping[str, object]) -> S:
    """Return ``section`` with ``values`` by dotted attribute."""
    below: dict[str, dict[str, object]] = {}
    own: dict[str, object] = {}
    for attribute, value in values.items():
        name, dot, rest = attribute.partition(".")
        if dot:
            below.setdefault(name, {})[rest] = value
        else:
            own[name] = value
    own.update({name: _replaced(getattr(section, name), inner) for name, inner in below.items()})
    return dataclasses.replace(section, **own)  # type: ignore[type-var]


def default_owner(source: SourceConfig) -> str:
    """Return the owner where none is configured: a hash of the source, so that two never claim each other's objects."""
    text = "\0".join(("reconciler/owner/v1", source.url, source.branch, source.path))
    return "o" + hashlib.sha256(text.encode()).hexdigest()[:11]
