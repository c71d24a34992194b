"""``doctor``: finds problems of this installation and says how to fix them. Read only."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from reconciler.cli.output import emit_json
from reconciler.cli.session import ask_daemon, configuration
from reconciler.cli.sink import out
from reconciler.cli.tables import painter
from reconciler.config.settings import Config
from reconciler.drivers.http.clock import TOO_FAR_S, ProviderClock
from reconciler.model.errors import NotImplementedYet, ReconcilerError, storage_error
from reconciler.model.exit_codes import EXIT_ERROR, EXIT_OK

GIT_FLOOR = (2, 31, 0)  # GIT_CONFIG_COUNT, which carries the token, came with 2.31 (git's release notes)
SPACE_FLOOR = 200 << 20
CLOCK_NOTE_S = 30.0
SET_CLOCK = "Synchronize this host's clock: chrony, or systemd-timesyncd (timedatectl set-ntp true)."


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of the report: ``ok``, ``warning`` or ``error``, and what to do."""

    check: str
    level: str
    message: str
    fix: str = ""


def doctor(options: argparse.Namespace) -> int:
    """Run every check; exit 1 when one is an error."""
    findings: list[CheckResult] = [_python()]
    try:
        config = configuration(options)
        findings.append(
            CheckResult("configuration", "ok", f"owner {config.owner}, source {config.source.url}, state {config.state_dir}")
        )
    except ReconcilerError as error:
        findings.append(CheckResult("configuration", "error", f"{error.code}: {error.message}", error.hint))
        return _tell(findings, options.output)
    checks: tuple[Callable[[Config], list[CheckResult]], ...] = (
        _git,
        _folder,
        _files,
        _key,
        _state,
        _daemon,
        _source,
        _integrations,
    )
    for check in checks:
        try:
            findings += check(config)
        except (ReconcilerError, OSError) as found:
            shown = storage_error(found, found.filename or "a file") if isinstance(found, OSError) else found
            findings.append(CheckResult(check.__name__.strip("_"), "error", f"{shown.code}: {shown.message}", shown.hint))
    return _tell(findings, options.output)


_COLOURS = {"ok": "32", "warning": "33", "error": "31"}


def _tell(findings: list[CheckResult], output: str) -> int:
    bad = any(finding.level == "error" for finding in findings)
    if output == "json":
        emit_json({"healthy": not bad, "findings": [asdict(finding) for finding in findings]})
        return EXIT_ERROR if bad else EXIT_OK
    paint = painter()
    for finding in findings:
        mark = paint(_COLOURS.get(finding.level, ""), f"{finding.level:7}")
        out(mark, f" {finding.check:14} {finding.message}")
        if finding.fix:
            out(f"        {'':14} → {finding.fix}")
    out("healthy" if not bad else "problems found")
    return EXIT_ERROR if bad else EXIT_OK


def _python() -> CheckResult:
    version = ".".join(map(str, sys.version_info[:3]))
    return CheckResult(
        "python",
        "ok" if sys.version_info >= (3, 11) else "error",
        version,
        "" if sys.version_info >= (3, 11) else "Use Python 3.11 or newer.",
    )


def _git(config: Config) -> list[CheckResult]:  # noqa: ARG001  one signature for all checks
    program = shutil.which("git")
    if program is None:
        return [CheckResult("git", "error", "git is not installed", "apt-get install git")]
    text = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    numbers = tuple(int(part) for part in text.split()[2].split(".")[:3] if part.isdigit())
    good = numbers >= GIT_FLOOR
    return [
        CheckResult(
            "git",
            "ok" if good else "error",
            text.strip(),
            "" if good else f"Git {'.'.join(map(str, GIT_FLOOR))} or newer is needed.",
        )
    ]


def _folder(config: Config) -> list[CheckResult]:
    folder = config.state_dir
    if not folder.exists():
        return [
            CheckResult(
                "state folder", "warning", f"{folder} does not exist yet", "The first `reconciler run` or `apply` creates it."
            )
        ]
    rows = []
    if not os.access(folder, os.W_OK):
        rows.append(
            CheckResult(
                "state folder",
                "error",
                f"{folder} cannot be written by uid {os.getuid()}",
                f"chown it to this user: chown -R $(id -u) {folder}",
            )
        )
    free = shutil.disk_usage(folder).free
    low = free < SPACE_FLOOR
    rows.append(
        CheckResult(
            "disk",
            "warning" if low else "ok",
            f"{free >> 20} MiB free in {folder}",
            "Make room: nothing remote is written while the disk is full." if low else "",
        )
    )
    return rows


def _files(config: Config) -> list[CheckResult]:
    """Look at every file that the daemon makes again by itself, and at who may read and write the state folder."""
    from reconciler.state.files import fault_of, too_open

    folder, rows = config.state_dir, []
    if not folder.exists():
        return []
    info = folder.stat()
    if info.st_mode & 0o022:
        mode = stat.S_IMODE(info.st_mode)
        rows.append(
            CheckResult(
                "state folder", "error", f"{folder} has mode {mode:04o}: others may replace the state", f"chmod 700 {folder}"
            )
        )
    if info.st_uid != os.geteuid():
        rows.append(CheckResult("state folder", "error", f"{folder} belongs to uid {info.st_uid}", f"chown -R $(id -u) {folder}"))
    rows += [
        CheckResult("state folder", "error", f"{path} has mode {mode:04o}", f"chmod 600 {path}")
        for path, mode in too_open(folder)
    ]
    for name in ("engine.db", "cache.db"):
        path = folder / name
        fault = "" if not path.exists() else fault_of(path) if path.is_file() else "it is not a file"
        if fault:
            rows.append(
                CheckResult(name, "warning", f"{path} is damaged: {fault}", "The next start recreates it. No data is lost.")
            )
    return rows


def _key(config: Config) -> list[CheckResult]:
    path = Path(config.master_key.file)
    if not path.exists():
        level = "error" if config.state_exists else "warning"
        fix = (
            "Restore the key file: without it no webhook can be verified. The daemon never re-keys automatically."
            if level == "error"
            else "The first run creates it. Back it up."
        )
        return [CheckResult("master key", level, f"{path} is missing", fix)]
    mode = stat.S_IMODE(path.stat().st_mode)
    return [
        CheckResult(
            "master key",
            "error" if mode & 0o077 else "ok",
            f"{path}, mode {mode:04o}",
            f"chmod 600 {path}" if mode & 0o077 else "",
        )
    ]


def _state(config: Config) -> list[CheckResult]:
    if not config.state_exists:
        return [
            CheckResult(
                "state", "warning", "no state yet", "The first run creates it; after a loss, see `reconciler recover --help`."
            )
        ]
    from reconciler.cli.history import verify_audit
    from reconciler.state import Store

    store = Store.open(config.state.url, state_dir=config.state_dir, create=False, key_file=Path(config.master_key.file))
    try:
        store.check()
        held, said = verify_audit(config, store)
        objects, unsettled = len(store.recorded()), len(store.unsettled())
    finally:
        store.close()
    rows = [CheckResult("state", "ok", f"{objects} objects, {unsettled} writes with unknown outcome")]
    rows.append(
        CheckResult(
            "audit log",
            "ok" if held else "error",
            said,
            "" if held else "Somebody changed the log: compare it with your backups and with the anchors in the daemon's log.",
        )
    )
    return rows


def _daemon(config: Config) -> list[CheckResult]:
    answer = ask_daemon(config, {"verb": "ping"}, timeout_s=5)
    if answer is None:
        return [CheckResult("daemon", "warning", "not running on this state", "Start it: reconciler run")]
    from reconciler.cli.status import age_s, read

    age = age_s(read(Path(config.status.file)), time.time())
    return [
        CheckResult(
            "daemon",
            "ok" if age < 120 else "error",
            f"running, heartbeat {age:.0f} s old",
            "" if age < 120 else "Its loop does not advance: see its log, then restart it.",
        )
    ]


def _source(config: Config) -> list[CheckResult]:
    from reconciler.source import open_source
    from reconciler.source.configured import options_of

    async def look() -> str:
        source = open_source(options_of(config), config.state_dir)
        try:
            return (await source.fetch()).id
        finally:
            await source.close()

    return [CheckResult("source", "ok", f"{config.source.url} at {asyncio.run(look())}")]


def _integrations(config: Config) -> list[CheckResult]:
    """Try every credential with the cheapest authenticated call its provider has."""
    if not config.state_exists:
        return []
    from reconciler.daemon.session import Options, open_session

    async def look() -> list[CheckResult]:
        rows = []
        async with open_session(config, Options(lock=False, create=False, read_only=True)) as session:
            await session.engine.sync()
            for problem in [p for p in session.engine.live.problems if p.is_error][:10]:
                rows.append(
                    CheckResult("manifests", "error", f"{problem.location}: {problem.code}: {problem.message}", problem.hint)
                )
            for one in await session.engine.integrations():
                result = await session.engine.plan(one)
                rows.append(
                    _integration(
                        str(one),
                        result.error,
                        result.credential.identity if result.credential else "",
                        result.credential.missing if result.credential else (),
                    )
                )
                rows += _clock(one.name, session.engine.current.clients.clock_of(one))
                rows += [
                    CheckResult(str(r), "error", f"{e.code}: {e.message}", e.hint)
                    for r, e in sorted(result.compiled.stalled.items())
                ]
                rows += [
                    CheckResult(str(s), "error", f"{e.code}: {e.message}", e.hint) for s, e in sorted(result.scope_errors.items())
                ]
        return rows

    return asyncio.run(look())


def _clock(name: str, clock: ProviderClock | None) -> list[CheckResult]:
    """Say how far this host's clock is from a provider's: what is searched there by time depends on it."""
    if clock is None:
        return []
    check, ahead_s = f"clock {name}", clock.ahead_s
    if ahead_s is None:
        message = "the answers have no Date header: a start with unknown outcome is not repeated"
        return [CheckResult(check, "warning", message, "Check for a proxy that removes the header.")]
    side = "ahead of" if ahead_s < 0 else "behind"
    message = f"this host is {abs(round(ahead_s))} s {side} the provider"
    if clock.trusted:
        late = abs(ahead_s) > CLOCK_NOTE_S
        return [CheckResult(check, "warning" if late else "ok", message, SET_CLOCK if late else "")]
    message += f", more than {TOO_FAR_S:.0f} s: a start with unknown outcome is not repeated (RC5052)"
    return [CheckResult(check, "error", message, SET_CLOCK)]


def _integration(name: str, error: ReconcilerError | None, identity: str, missing: tuple[str, ...]) -> CheckResult:
    if error is not None:
        return CheckResult(
            name, "warning" if isinstance(error, NotImplementedYet) else "error", f"{error.code}: {error.message}", error.hint
        )
    if missing:
        return CheckResult(name, "error", "missing: " + ", ".join(missing), "Grant these to the credential.")
    return CheckResult(name, "ok", f"acts as {identity}" if identity else "accepted")
