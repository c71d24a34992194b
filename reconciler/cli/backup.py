"""`reconciler backup` and `restore`: the state as one file, and back."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.cli.options import BackupOptions, RestoreOptions
from reconciler.cli.output import agreed, emit_json
from reconciler.cli.session import configuration
from reconciler.cli.sink import out
from reconciler.config.settings import Config
from reconciler.durable import make_durable
from reconciler.model.errors import StateError, UsageError, storage_error
from reconciler.model.exit_codes import EXIT_ERROR, EXIT_OK

if TYPE_CHECKING:
    from reconciler.state import Store
    from reconciler.state.restoration import ClosedWork

_PARTS = ".restore-"
"""Beginning of the name of the folder in which a backup is checked before it is put in place."""
GONE_S = 6.0
"""Time after which a process that ended has no recent heartbeat any more."""


def backup(options: BackupOptions) -> int:
    """Copy the SQLite state, while the daemon may run. Raises `StateError` and `UsageError`."""
    config = configuration(options)
    source, target = _database(config), Path(options.file).absolute()
    if not source.exists():
        raise StateError(
            f"there is no state at {source}", code="RC7021", hint="The first `reconciler run` or `apply` creates it."
        )
    key = target.with_name(target.name + ".key")
    for path in (target, *([key] if options.with_key else [])):
        _refuse_target(config, path, force=options.force)
    from reconciler.state.copies import copy_database

    try:
        copy = copy_database(source, target, check=_refuse_damaged)
        _write(target.with_name(target.name + ".sha256"), f"{copy.sha256}  {target.name}\n".encode(), 0o644)
        if options.with_key:
            _write(key, Path(config.master_key.file).read_bytes(), 0o600)
    except OSError as error:
        raise storage_error(error, error.filename or str(target)) from None
    if options.output == "json":
        emit_json({"file": str(target), "bytes": copy.size, "sha256": copy.sha256, "key": str(key) if options.with_key else ""})
        return EXIT_OK
    out(f"{target}: {copy.size} bytes, sha256 {copy.sha256}")
    out(
        f"The master key is in {key}."
        if options.with_key
        else f"The master key is not in it: keep a copy of {config.master_key.file}."
    )
    return EXIT_OK


def _refuse_target(config: Config, path: Path, *, force: bool) -> None:
    """Raise `StateError` if a backup must not be written to ``path``: with ``force``, only plain files of another purpose are replaced."""
    from reconciler.state.files import files_in_use

    state = _database(config)
    in_use = {*files_in_use(state, config.state_dir), Path(config.master_key.file), Path(config.status.file)}
    if path.resolve() in {each.absolute().resolve() for each in in_use}:
        raise _refused(f"{path} is a file of the running installation", "Name another file, outside the state folder.")
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise _refused(f"{path} exists already and is not a file", "Name another file.")
    if path.exists() and not force:
        raise _refused(f"{path} exists already", "Name another file, or use --force to replace it.")


def _refuse_damaged(copy: Path) -> None:
    """Raise `StateError` if a copy of the state is damaged, or empty: it must not replace an older backup that is intact."""
    from reconciler.state.copies import schema_in
    from reconciler.state.files import fault_of

    if fault := fault_of(copy) or ("" if schema_in(copy) else "it has no schema version"):
        raise StateError(
            f"the state is damaged, and was not backed up: {fault}",
            code="RC7009",
            hint="No file was replaced: an older backup is still as it was. `reconciler doctor` names the damaged file and the next step.",
        )


def restore(options: RestoreOptions) -> int:
    """Put a backup in place, or finish the restore of a database server. Raises `StateError` and `UsageError`."""
    config = configuration(options)
    is_file = config.state.url.startswith("sqlite:///")
    if is_file and options.file is None:
        raise UsageError("FILE is missing", hint="Name the backup: reconciler restore FILE.")
    if not is_file and options.file is not None:
        raise UsageError(
            "the state is in PostgreSQL, which this program does not restore",
            hint="Restore the database with pg_restore or psql, then run `reconciler restore` without FILE (docs/backup.md).",
        )
    from reconciler.state import StateLock
    from reconciler.state.files import secure

    secure(config.state_dir)
    lock = StateLock(config.state_dir)
    lock.acquire()
    try:
        question = (
            f"Restore {options.file} to {config.state_dir}?" if is_file else "Finish the restore of the PostgreSQL database?"
        )
        if not agreed(question, yes=options.yes, refusal="nothing was restored"):
            return EXIT_ERROR
        closed = _from_file(config, options) if is_file else _in_place(config, options)
    finally:
        lock.release()
    _report(config, options, closed)
    return EXIT_OK


def _from_file(config: Config, options: RestoreOptions) -> ClosedWork:
    from reconciler.state.files import ANCHOR, set_anchor_aside

    target, file = _database(config), Path(options.file or "").absolute()
    in_the_way = [path for path in (target, *(target.with_name(target.name + end) for end in ("-wal", "-shm"))) if path.exists()]
    if in_the_way:
        shown = " ".join(str(path) for path in in_the_way)
        raise _refused(f"there is a state at {target}", f"To replace it, stop the daemon and move it away: mv {shown} SOMEWHERE.")
    digest = _checked(file)
    key = Path(config.master_key.file) if options.with_key else None
    if key is not None:
        _restore_key(file, key)
    for left in config.state_dir.glob(f"{_PARTS}*"):  # of a restore that was killed: the lock says that it is over
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_PARTS, dir=config.state_dir))
    try:
        part = folder / target.name
        shutil.copyfile(file, part)
        part.chmod(0o600)
        closed = _finish(config, options, f"sqlite:///{part}", folder, {"backup": f"sha256:{digest}"})
        _settle(part)
        set_anchor_aside(config.state_dir)
        os.link(part, target)
        key = None
        (folder / ANCHOR).replace(config.state_dir / ANCHOR)
        make_durable(target.parent)
        return closed
    except OSError as error:
        raise storage_error(error, error.filename or str(target)) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if key is not None:  # nothing was restored
            key.unlink(missing_ok=True)


def _settle(part: Path) -> None:
    """Make the database one durable file, without a log beside it."""
    import contextlib
    import sqlite3

    with contextlib.closing(sqlite3.connect(part)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    make_durable(part)


def _in_place(config: Config, options: RestoreOptions) -> ClosedWork:
    return _finish(config, options, config.state.url, config.state_dir, {"backup": "restored by the database's tools"})


def _finish(config: Config, options: RestoreOptions, url: str, folder: Path, detail: dict[str, object]) -> ClosedWork:
    """Check the restored database, and record in its audit log that it was restored."""
    from reconciler.credentials.keys import load_keyring
    from reconciler.daemon.session import audit_keys
    from reconciler.model.records import AuditEntry
    from reconciler.state import Store
    from reconciler.state.files import ANCHOR, set_anchor_aside

    store = Store.open(url, state_dir=folder, create=False)
    try:
        _refuse_running(store)
        known = store.get_meta("owner")
        if known is not None and known != config.owner:
            raise _refused(
                f"the backup is of owner {known!r}, the configuration says {config.owner!r}",
                "Use the configuration of the backup.",
            )
        keyring = load_keyring(config, stored_check=store.get_meta("key.check"), create_allowed=False)
        store.use_audit_keys(audit_keys(keyring))
        _seal_older(store, folder)
        verified = store.verify_audit()
        if not verified.ok:
            raise _refused(f"the audit log of the backup was changed: {verified}", "Use another backup.")
        entry = AuditEntry(
            at=time.time(), actor=f"cli:{_user()}", verb="restore", outcome="done", detail={**detail, "rows": verified.rows}
        )
        closed = store.finish_restore(entry, close=not options.resume_work)
        try:
            set_anchor_aside(folder)
            store.keep_anchor()
        except OSError as error:
            raise storage_error(error, str(folder / ANCHOR)) from None
        return closed
    finally:
        store.close()


def _seal_older(store: Store, folder: Path) -> None:
    """Sign the audit rows of a backup whose program did not sign any, as an upgrade does. The chain of their hashes is verified later."""
    from reconciler.model.records import AuditEntry
    from reconciler.state.audit_walk import SEAL
    from reconciler.state.files import set_anchor_aside
    from reconciler.state.migrate import FIRST_SIGNED

    if store.upgraded is None or store.upgraded.before >= FIRST_SIGNED:
        return
    set_anchor_aside(folder)  # it is of the upgraded state that was lost
    reason = {"reason": f"restored from schema {store.upgraded.before}, which has no signatures"}
    store.seal_audit(AuditEntry(at=time.time(), actor=f"cli:{_user()}", verb=SEAL, detail=reason))


def _refuse_running(store: Store, wait_s: float = GONE_S) -> None:
    if store.dialect == "sqlite":
        return  # the lock of the state folder is held
    deadline = time.monotonic() + wait_s
    while alive := store.live_executors():
        if time.monotonic() < deadline:  # a dump that was made a moment ago has heartbeats of that moment
            time.sleep(0.25)
            continue
        raise _refused(f"{', '.join(alive)} work on this database", "Stop every daemon on it first.")


def _checked(file: Path) -> str:
    """Return the digest of a backup after checking it against FILE.sha256, if there is one, and its structure."""
    from reconciler.state.copies import digest_of, schema_in
    from reconciler.state.files import fault_of

    try:
        digest, note = digest_of(file), file.with_name(file.name + ".sha256")
        expected = note.read_text(encoding="utf-8", errors="replace").split()[:1] if note.exists() else [digest]
        fault = fault_of(file)
    except OSError as error:
        raise storage_error(error, str(file)) from None
    if expected != [digest]:
        raise _refused(f"{file} has not the digest that {note.name} says: it was changed or cut", "Use another backup.")
    if fault or not schema_in(file):
        raise _refused(f"{file} is no backup of a state: {fault or 'it has no schema version'}", "Use another backup.")
    return digest


def _restore_key(file: Path, target: Path) -> None:
    source = file.with_name(file.name + ".key")
    if target.exists():
        raise _refused(f"there is a master key at {target}", "Leave out --with-key to use it.")
    try:
        _write(target, source.read_bytes(), 0o600)
    except OSError as error:
        raise storage_error(error, error.filename or str(source)) from None


def _report(config: Config, options: RestoreOptions, closed: ClosedWork) -> None:
    if options.output == "json":
        emit_json(
            {
                "items": [item.id for item in closed.items],
                "executions": [execution.id for execution in closed.executions],
                "events": list(closed.events),
            }
        )
        return
    out(f"The state of {config.owner} is restored.")
    if options.resume_work:
        out("What was open in the backup continues with the next `reconciler run`.")
    elif closed:
        out("It may have run since the backup, so this was ended:")
        for item in closed.items:
            out(f"  {item.id}  {item.stage}  {item.state.value}  repeat it: reconciler rerun {item.id}")
        for execution in closed.executions:
            url = f"  {execution.run.url}" if execution.run is not None else ""
            out(f"  {execution.id}  {execution.stage}  {execution.state.value}{url}")
        for event in closed.events:
            out(f"  {event}  event that was not routed; repeat it: reconciler replay {event}")
    out("Next: `reconciler plan` shows what differs at the providers; then start the daemon.")


def _database(config: Config) -> Path:
    url = config.state.url
    if not url.startswith("sqlite:///"):
        raise UsageError(
            "the state is in PostgreSQL: use pg_dump",
            hint='pg_dump --format=custom --file=FILE "$DATABASE_URL"; docs/backup.md has the steps.',
        )
    return Path(url.removeprefix("sqlite:///")).absolute()


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file completely or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    part.replace(path)


def _refused(message: str, hint: str) -> StateError:
    return StateError(message, code="RC7074", hint=f"Nothing was changed. {hint}")


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
