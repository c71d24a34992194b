"""The one table of configuration keys: it drives loading, the environment and docs/configuration.md. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.config import values as values


@dataclass(frozen=True, slots=True)
class Key:
    """One key: where it stands in the file and in `Config`, how it is read, what it means."""

    path: str
    attribute: str
    kind: str
    read: Callable[[Any], Any]
    text: str
    is_path: bool = False
    """Relative to the configuration file."""
    secret: bool = False
    """May hold a secret: not shown by `Config.describe`."""

    @property
    def variable(self) -> str:
        """The environment variable: capitals, words parted by underscores."""
        words = [re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", part) for part in self.path.split(".")]
        return "RECONCILER_" + "_".join(words).upper()


def _file(path: str, attribute: str, text: str, kind: str = "file") -> Key:
    return Key(path, attribute, kind, values.text, text, is_path=True)


_SOURCE = (
    Key(
        "owner",
        "owner",
        "text",
        values.text,
        "Whose objects these are: part of every marker. Default: a hash of source URL, branch and path.",
    ),
    Key(
        "source.url",
        "source.url",
        "URL or folder",
        values.text,
        "Where the manifests are: https, ssh, or a local folder. Never with a credential.",
    ),
    Key("source.branch", "source.branch", "text", values.text, "The branch that is followed."),
    Key("source.path", "source.path", "path in the repository", values.text, "Only manifests below this folder."),
    Key(
        "source.interval",
        "source.interval",
        "duration",
        values.duration,
        "How often a remote is asked for a new commit (±5 % jitter).",
    ),
    _file("source.auth.tokenFile", "source.token_file", "Token for https; read again at every fetch."),
    _file("source.auth.sshKeyFile", "source.ssh_key_file", "Private key for ssh."),
    _file("source.auth.knownHostsFile", "source.known_hosts_file", "Host keys for ssh; an unknown host is refused."),
    Key(
        "source.verify.mode",
        "source.verify.mode",
        "HEAD, Range",
        values.one_of("HEAD", "Range"),
        "Which commits must be signed: the newest, or all since the last accepted one. With allowed signers: HEAD.",
    ),
    _file(
        "source.verify.allowedSignersFile",
        "source.verify.allowed_signers_file",
        "Allowed signers (ssh-keygen(1)); never read from the repository.",
    ),
    _file("source.verify.revocationFile", "source.verify.revocation_file", "Revoked keys (ssh-keygen KRL)."),
    Key(
        "source.verify.principals",
        "source.verify.principals",
        "list",
        values.texts,
        "Who of the allowed signers may sign; empty: any of them.",
    ),
    Key(
        "source.requireFastForward",
        "source.require_fast_forward",
        "true, false",
        values.flag,
        "Refuse a rewritten history instead of reporting it.",
    ),
    Key(
        "source.allowEmpty",
        "source.allow_empty",
        "true, false",
        values.flag,
        "Accept a revision without a single manifest, which prunes everything.",
    ),
)
_DAEMON = (
    Key(
        "state.url",
        "state.url",
        "URL",
        values.text,
        "`sqlite:///PATH`, or `postgresql+psycopg://…` for several processes.",
        secret=True,
    ),
    Key("server.listen", "server.listen", "host:port", values.text, "Where the daemon listens; port 0 picks a free one."),
    Key(
        "server.publicUrl",
        "server.public_url",
        "URL",
        values.text,
        "The root of every webhook URL, as providers reach it. https, except on loopback and hosts of `network.allow`.",
    ),
    Key("server.maxBody", "server.max_body", "size", values.size, "Largest event body that is read."),
    Key(
        "server.tokens",
        "server.tokens",
        "list of {name, sha256, role}",
        values.tokens,
        "Bearer tokens of the API, as SHA-256; roles viewer, operator, approver.",
        secret=True,
    ),
    Key("reconcile.interval", "reconcile.interval", "duration", values.duration, "How often drift is looked for."),
    Key(
        "reconcile.settle",
        "reconcile.settle",
        "duration",
        values.duration,
        "How long after a write of unknown outcome an absence is not yet believed.",
    ),
    Key(
        "reconcile.retry.min",
        "reconcile.retry_min",
        "duration",
        values.duration,
        "First pause after a failure; doubled each time.",
    ),
    Key("reconcile.retry.max", "reconcile.retry_max", "duration", values.duration, "Longest pause after a failure."),
    Key(
        "reconcile.concurrency",
        "reconcile.concurrency",
        "number",
        values.whole,
        "Scopes that are read side by side, for each integration.",
    ),
    Key("reconcile.prune", "reconcile.prune", "true, false", values.flag, "Delete what is no longer declared."),
    Key(
        "reconcile.limits.deletePercent",
        "reconcile.limits.delete_percent",
        "number",
        values.percent,
        "Blocked: deletes of more than this share of what is owned on an integration; 0: off.",
    ),
    Key(
        "reconcile.limits.deleteMinimum",
        "reconcile.limits.delete_minimum",
        "number",
        values.whole,
        "Fewer deletes than this are never over `deletePercent`; 0: the percentage is off.",
    ),
    Key(
        "reconcile.limits.deleteMax",
        "reconcile.limits.delete_max",
        "number",
        values.whole,
        "Blocked: more deletes than this on one integration; 0: off.",
    ),
)
_AROUND = (
    Key(
        "secrets.env",
        "secrets.env",
        "list",
        values.texts,
        "Names of environment variables that a Secret may name (shell patterns).",
    ),
    _file("secrets.folder", "secrets.folder", "Where Secrets of provider `file` lie.", "folder"),
    Key("secrets.sops", "secrets.sops", "mapping", values.mapping, "Settings of the sops provider (not part of this version)."),
    Key(
        "secrets.vault", "secrets.vault", "mapping", values.mapping, "Settings of the vault provider (not part of this version)."
    ),
    Key(
        "network.allow",
        "network.allow",
        "list",
        values.texts,
        "Hosts or CIDRs beyond the providers' own; http and odd ports are allowed there.",
    ),
    _file("network.caBundle", "network.ca_bundle", "CA certificates to trust instead of the system's."),
    Key(
        "network.proxy", "network.proxy", "URL", values.text, "HTTP proxy; the environment's proxies are never used.", secret=True
    ),
    Key(
        "pace",
        "pace",
        "mapping",
        values.paces,
        "By provider: `writesPerMinute`, `writesPerHour`, `pointsPerMinute`. Default: the published limits; other hosts: none.",
    ),
    Key("retention.inbox", "retention.inbox", "duration", values.duration, "How long received events are kept."),
    Key(
        "retention.history",
        "retention.history",
        "duration",
        values.duration,
        "How long the journal is kept. The audit log is never cut.",
    ),
    _file("status.file", "status.file", "The status file."),
    Key("status.heartbeat", "status.heartbeat", "duration", values.duration, "The status file is written at least this often."),
    Key(
        "log.format",
        "log.format",
        "auto, json, console",
        values.one_of("auto", "json", "console"),
        "auto: console on a terminal, else JSON lines.",
    ),
    Key(
        "log.level",
        "log.level",
        "debug, info, warning, error",
        values.one_of("debug", "info", "warning", "error"),
        "Least level that is logged.",
    ),
    _file("masterKey.file", "master_key.file", "The master key (0600). Made where neither state nor key exists."),
    _file("masterKey.previousFile", "master_key.previous_file", "The key before a change of the master key."),
    Key("sandbox", "sandbox", "true, false", values.flag, "Allow literal secrets (provider `local`); for trials only."),
)

KEYS: tuple[Key, ...] = _SOURCE + _DAEMON + _AROUND
BY_PATH: Mapping[str, Key] = {key.path: key for key in KEYS}
SECTIONS = frozenset(".".join(key.path.split(".")[:n]) for key in KEYS for n in range(1, key.path.count(".") + 1))
"""Dotted paths that hold keys and no value: ``source``, ``source.auth``, …"""


def shown(value: Any, key: Key) -> str:
    """Return a default as one would write it; empty for "none"."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if key.read is values.duration:
        return _duration(value)
    if key.read is values.size:
        return f"{value >> 20}MiB"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]" if value else ""
    return "" if isinstance(value, Mapping) else str(value)


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * length and seconds % length == 0:
            return f"{int(seconds // length)}{unit}"
    return f"{seconds:g}s"
