"""``doctor``: find problems of this installation and suggest fixes. Read only."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.cli.options import OutputOptions
from reconciler.cli.output import emit_json
from reconciler.cli.progress import waiting
from reconciler.cli.session import ask_daemon, configuration
from reconciler.cli.sink import out
from reconciler.cli.status import LABELS, MAX_AGE_S, age_s, read
from reconciler.cli.tables import LEAST_COLUMNS, columns, painter, short_revision
from reconciler.cli.widths import wrap
from reconciler.config.settings import Config
from reconciler.drivers.http.clock import TOO_FAR_S, ProviderClock
from reconciler.model.errors import NotImplementedYet, ReconcilerError, SecretUnavailable, storage_error
from reconciler.model.exit_codes import EXIT_ERROR, EXIT_OK
from reconciler.model.printable import plain

if TYPE_CHECKING:
    from reconciler.engine.reconcile import ReconcileResult

GIT_FLOOR = (2, 31, 0)  # GIT_CONFIG_COUNT, which carries the token, came with 2.31 (git's release notes)
SPACE_FLOOR = 200 << 20
CLOCK_NOTE_S = 30.0
MAX_PROBLEMS = 10
SET_CLOCK = "Synchronize this host's clock: chrony, or systemd-timesyncd (timedatectl set-ntp true)."


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check. ``level``: ok, warning, error, or unknown (the provider does not say). ``fix``: what to do, if it is not ok."""

    check: str
    level: str
    message: str
    fix: str = ""


def _result(check: str, message: str, *, good: bool, fix: str, level: str = "error") -> CheckResult:
    """Return an ok result if ``good``, else one of ``level`` with the fix."""
    return CheckResult(check, "ok", message) if good else CheckResult(check, level, message, fix)


def _error(check: str, error: ReconcilerError, level: str = "error") -> CheckResult:
    return CheckResult(check, level, f"{error.code}: {error.message}", error.hint)


def doctor(options: OutputOptions) -> int:
    """Run every check; exit 1 if one is an error."""
    results: list[CheckResult] = [_python()]
    try:
        config = configuration(options)
    except ReconcilerError as error:
        return _show([*results, _error("configuration", error)], options.output)
    place = f"owner {config.owner}, source {config.source.url}, state {config.state_dir}"
    results.append(CheckResult("configuration", "ok", place))
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
        name = check.__name__.strip("_")
        try:
            with waiting(f"checking: {name}"):
                results += check(config)
        except ReconcilerError as error:
            results.append(_error(name, error))
        except OSError as error:
            results.append(_error(name, storage_error(error, error.filename or "a file")))
    return _show(results, options.output)


_COLOURS = {"ok": "32", "warning": "33", "unknown": "33", "error": "31"}


def _show(results: list[CheckResult], output: str) -> int:
    healthy = all(result.level != "error" for result in results)
    if output == "json":
        emit_json({"healthy": healthy, "findings": [asdict(result) for result in results]})
        return EXIT_OK if healthy else EXIT_ERROR
    paint = painter()
    width = max(len(result.check) for result in results)
    column = len("warning") + width + 4
    for result in results:
        first, *more = _lines(result.message, column)
        out(paint(_COLOURS[result.level], f"{result.level:7}"), f"  {result.check:{width}}  {first}")
        for line in more:
            out(" " * column + line)
        for number, line in enumerate(_lines(result.fix, column + 2) if result.fix else []):
            out(" " * column + ("  " if number else "→ ") + line)
    out("healthy" if healthy else "not healthy: fix the errors above")
    return EXIT_OK if healthy else EXIT_ERROR


def _lines(text: str, column: int) -> list[str]:
    """Return ``text`` as lines that begin in ``column``; one line where no terminal limits it."""
    limit = columns()
    return [text] if limit is None else wrap(plain(text), max(limit - column, LEAST_COLUMNS))


def _python() -> CheckResult:
    version = ".".join(map(str, sys.version_info[:3]))
    return _result("python", version, good=sys.version_info >= (3, 11), fix="Use Python 3.11 or newer.")


def _git(config: Config) -> list[CheckResult]:  # noqa: ARG001  one signature for all checks
    program = shutil.which("git")
    if program is None:
        return [CheckResult("git", "error", "git is not installed", "apt-get install git")]
    text = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    numbers = tuple(int(part) for part in text.split()[2].split(".")[:3] if part.isdigit())
    fix = f"Install Git {'.'.join(map(str, GIT_FLOOR))} or newer."
    return [_result("git", text.strip(), good=numbers >= GIT_FLOOR, fix=fix)]


def _folder(config: Config) -> list[CheckResult]:
    folder = config.state_dir
    if not folder.exists():
        fix = "The first `reconciler run` or `reconciler apply` creates it."
        return [CheckResult("state folder", "warning", f"{folder} does not exist yet", fix)]
    results = []
    if not os.access(folder, os.W_OK):
        fix = f"chown it to this user: chown -R $(id -u) {folder}"
        results.append(CheckResult("state folder", "error", f"{folder} is not writable for uid {os.getuid()}", fix))
    free = shutil.disk_usage(folder).free
    fix = "Free space: while the disk is full, nothing is written at providers."
    results.append(_result("disk", f"{free >> 20} MiB free in {folder}", good=free >= SPACE_FLOOR, fix=fix, level="warning"))
    return results


def _files(config: Config) -> list[CheckResult]:
    """Check the owner and modes of the state folder, and the files that the daemon recreates."""
    from reconciler.state.files import fault_of, too_open

    folder = config.state_dir
    if not folder.exists():
        return []
    results = []
    info = folder.stat()
    if info.st_mode & 0o022:
        message = f"{folder} has mode {stat.S_IMODE(info.st_mode):04o}: others may replace the state"
        results.append(CheckResult("state folder", "error", message, f"chmod 700 {folder}"))
    if info.st_uid != os.geteuid():
        fix = f"chown -R $(id -u) {folder}"
        results.append(CheckResult("state folder", "error", f"{folder} belongs to uid {info.st_uid}", fix))
    results += [
        CheckResult("state folder", "error", f"{path} has mode {mode:04o}", f"chmod 600 {path}")
        for path, mode in too_open(folder)
    ]
    cache = folder / "cache.db"
    fault = "" if not cache.exists() else fault_of(cache) if cache.is_file() else "it is not a file"
    if fault:
        message = f"{cache} is damaged: {fault}"
        results.append(CheckResult(cache.name, "warning", message, "The next start recreates it; no data is lost."))
    return results


def _key(config: Config) -> list[CheckResult]:
    from reconciler.credentials.keys import readable_by_others

    path = Path(config.master_key.file)
    if not path.exists():
        fix = "The first run creates it. Back it up."
        if config.state_exists:
            fix = "Restore the key file: without it no webhook can be verified. The daemon does not create a new key."
        return [CheckResult("master key", "error" if config.state_exists else "warning", f"{path} is missing", fix)]
    info = path.stat()
    shown = f"{path}, mode {stat.S_IMODE(info.st_mode):04o}"
    return [_result("master key", shown, good=not readable_by_others(info), fix=f"chmod 600 {path}")]


def _state(config: Config) -> list[CheckResult]:
    if not config.state_exists:
        fix = "The first run creates it; after a loss, see `reconciler recover --help`."
        return [CheckResult("state", "warning", "no state yet", fix)]
    from reconciler.cli.history import verify_audit
    from reconciler.state import Store

    store = Store.open(config.state.url, state_dir=config.state_dir, create=False, key_file=Path(config.master_key.file))
    try:
        store.check()
        intact, report = verify_audit(config, store)
        objects, unsettled = len(store.recorded()), len(store.unsettled())
    finally:
        store.close()
    fix = "The log was changed: compare it with your backups and with the anchors in the daemon's log."
    return [
        CheckResult("state", "ok", f"{objects} objects, {unsettled} writes with unknown outcome"),
        _result("audit log", report, good=intact, fix=fix),
    ]


def _daemon(config: Config) -> list[CheckResult]:
    answer = ask_daemon(config, {"verb": "ping"}, timeout_s=5)
    if answer is None:
        return [CheckResult("daemon", "warning", "not running on this state", "Start it: reconciler run")]
    age = age_s(read(Path(config.status.file)), time.time())
    fix = "Its loop hangs: see its log, then restart it."
    return [_result("daemon", f"running, heartbeat {age:.0f} s old", good=age <= MAX_AGE_S, fix=fix)]


def _source(config: Config) -> list[CheckResult]:
    from reconciler.source import open_source
    from reconciler.source.configured import options_of

    async def look() -> str:
        source = open_source(options_of(config), config.state_dir)
        try:
            return (await source.fetch()).id
        finally:
            await source.close()

    return [CheckResult("source", "ok", f"{config.source.url} at {short_revision(asyncio.run(look()))}")]


def _integrations(config: Config) -> list[CheckResult]:
    """Try every credential with the cheapest authenticated call of its provider."""
    if not config.state_exists:
        return []
    from reconciler.daemon.session import Options, open_session

    accepted = _accepted_by_daemon(config)

    async def look() -> list[CheckResult]:
        async with open_session(config, Options(lock=False, create=False, read_only=True, log_level="error")) as session:
            engine = session.engine
            await engine.sync()
            errors = [problem for problem in engine.current.active.problems if problem.is_error][:MAX_PROBLEMS]
            results = [
                CheckResult("manifests", "error", f"{problem.location}: {problem.code}: {problem.message}", problem.hint)
                for problem in errors
            ]
            for integration in await engine.integrations():
                result = await engine.plan(integration)
                results += _unreadable_here(result, accepted) or _integration(result)
                clock = engine.current.clients.clock_of(integration)
                if clock is not None and not (clock.ahead_s is None and result.error is not None):  # else it was not called
                    results.append(_clock(integration.name, clock))
                results += [_error(str(resource), error) for resource, error in sorted(result.compiled.stalled.items())]
                results += [_error(str(scope), error) for scope, error in sorted(result.scope_errors.items())]
        return results

    return asyncio.run(look())


def _accepted_by_daemon(config: Config) -> dict[str, str]:
    """Return the identity of each credential that the running daemon uses now, by the path of its Integration."""
    try:
        report = read(Path(config.status.file))
        if age_s(report, time.time()) > MAX_AGE_S or ask_daemon(config, {"verb": "ping"}, timeout_s=5) is None:
            return {}
    except (ReconcilerError, OSError):  # `_daemon` reports it
        return {}
    unnamed = "an identity that the provider does not name"
    return {row.name: row.identity or unnamed for row in report.credentials if row.valid}


def _unreadable_here(result: ReconcileResult, accepted: Mapping[str, str]) -> list[CheckResult]:
    """Return a warning for a Secret that only the daemon can read, as one from its environment; empty in any other case."""
    identity = accepted.get(result.integration.path)
    if identity is None or not isinstance(result.error, SecretUnavailable):
        return []
    message = f"not checked here: {result.error.message}. The running daemon acts as {identity}"
    return [CheckResult(str(result.integration), "warning", message, "To check it here too, provide the value to this command.")]


def _clock(name: str, clock: ProviderClock) -> CheckResult:
    """Compare this host's clock with the provider's: searches by time depend on it."""
    check, ahead_s = f"clock {name}", clock.ahead_s
    if ahead_s is None:
        message = "the provider sends no time (no Date header): a run whose start has an unknown outcome is not started again"
        return CheckResult(check, "warning", message, "Check for a proxy that removes the header.")
    side = "ahead of" if ahead_s < 0 else "behind"
    message = f"this host is {abs(round(ahead_s))} s {side} the provider"
    if clock.trusted:
        return _result(check, message, good=abs(ahead_s) <= CLOCK_NOTE_S, fix=SET_CLOCK, level="warning")
    message += f", more than {TOO_FAR_S:.0f} s: a run whose start has an unknown outcome is not started again (RC5052)"
    return CheckResult(check, "error", message, SET_CLOCK)


def _integration(result: ReconcileResult) -> list[CheckResult]:
    """Return the five answers for the credential: what the provider does not tell is a row of its own, and never ok."""
    from reconciler.engine.credentials import answers_of, threshold_of

    name, report = str(result.integration), answers_of(result)
    if result.error is not None:
        return [_error(name, result.error, "warning" if isinstance(result.error, NotImplementedYet) else "error")]
    if report is None:
        return []
    rows = []
    if report.missing:
        rows.append(CheckResult(name, "error", "missing: " + ", ".join(report.missing), "Grant these to the credential."))
    if not report.missing and "valid" not in report.unknown:
        ends = f", ends {report.expires_at}" if report.expires_at else ""
        text = (f"acts as {report.identity}" if report.identity else "accepted") + ends
        soon = threshold_of(report.expires_at, time.time()) is not None
        rows.append(_result(name, text, good=not soon, fix="Create a new credential and replace the secret.", level="warning"))
    reasons: dict[str, list[str]] = {}
    for question, reason in report.unknown.items():
        reasons.setdefault(reason, []).append(LABELS.get(question, question))
    rows += [CheckResult(name, "unknown", f"{', '.join(labels)}: {reason}") for reason, labels in reasons.items()]
    return rows
