"""The composition root: every object with side effects is created here, once, and passed down.

`Session` is what one-shot commands need (state, keys, engine); `reconciler.daemon.main` adds the runtime, the clock, the servers
and the signals.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.config.settings import Config
from reconciler.credentials.id_tokens import IdTokenIssuer
from reconciler.credentials.keys import KeyRing, load_keyring
from reconciler.credentials.process import harden
from reconciler.credentials.redact import Redactor
from reconciler.daemon.issuing import open_issuer
from reconciler.daemon.signals import longer_start
from reconciler.daemon.telemetry import open_tracer
from reconciler.drivers.auth import no_issuer
from reconciler.drivers.http.client import HttpSession
from reconciler.engine.context import Context, no_look
from reconciler.engine.controller import Controller
from reconciler.log import configure, get_logger
from reconciler.model.errors import StateError
from reconciler.model.records import AuditEntry
from reconciler.source import Source, open_source
from reconciler.source.configured import options_of
from reconciler.state import StateLock, Store
from reconciler.state.async_store import AsyncStore
from reconciler.state.audit_walk import SEAL
from reconciler.state.files import remove_leftovers, secure
from reconciler.state.store import Upgrade
from reconciler.state.thread import StateThread
from reconciler.state.values import AuditKey


@dataclass(slots=True)
class Session:
    """State, keys and engine of one process."""

    config: Config
    deps: Context
    engine: Controller
    redactor: Redactor
    issuer: IdTokenIssuer | None
    """The OIDC issuer that this installation is; None without `oidc.issuer` and `server.publicUrl`."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a session is opened."""

    lock: bool = True
    """Take the state folder's lock: no other process writes meanwhile."""
    create: bool = True
    """Create the state and the master key if neither exists."""
    read_only: bool = False
    """Remote writes are impossible."""
    traced: bool = False
    """Record traces, if telemetry is on; the process exports them (`reconciler.daemon.telemetry.exporting`)."""
    actor: str = ""
    log_level: str = ""
    """Minimum log level; empty: as configured. One-shot commands print their results themselves."""


@contextlib.asynccontextmanager
async def open_session(config: Config, options: Options, *, source: Source | None = None) -> AsyncIterator[Session]:
    """Open state, keys and engine, and close them in reverse order. Raises `StateError` and `ConfigError`."""
    harden()
    redactor = Redactor()
    configure(config.log.format, options.log_level or config.log.level, redactor)
    async with contextlib.AsyncExitStack() as stack:
        if options.lock:
            stack.enter_context(_held(config))
        thread = StateThread()
        stack.callback(thread.close)
        store = await thread(_open_store, config, options)
        stack.push_async_callback(thread, store.close)
        keyring = await thread(_keys, config, store, options)
        for key in keyring.values():
            redactor.add(key)
        actor = options.actor or f"cli:{_user()}"
        if not options.read_only:
            await thread(_seal, store, actor)
            stack.push_async_callback(thread, _keep_anchor, store)
        session = await stack.enter_async_context(HttpSession.from_config(config.network))
        if options.traced:
            session.tracer = open_tracer(config, redactor)
        source = source or open_source(options_of(config), config.state_dir)
        stack.push_async_callback(source.close)
        shared = AsyncStore(store, thread)
        issuer = open_issuer(config, shared, keyring, redactor, session, actor=actor, read_only=options.read_only)
        deps = Context(
            config=config,
            store=shared,
            keyring=keyring,
            session=session,
            clock=time.time,
            log=get_logger("engine"),
            actor=actor,
            owner=config.owner,
            redactor=redactor,
            sandbox=config.sandbox,
            id_token=issuer or no_issuer,
            tracer=session.tracer,
            look_again=issuer.look_again if issuer is not None else no_look,
        )
        engine = Controller(deps, source, read_only=options.read_only)
        stack.push_async_callback(engine.current.clients.close)
        if store.dialect != "sqlite" and not options.read_only:
            engine.holder = f"{socket.gethostname()}-{os.getpid()}"
        await engine.start()
        yield Session(config, deps, engine, redactor, issuer)


@contextlib.contextmanager
def _held(config: Config) -> Iterator[None]:
    for outcome in secure(config.state_dir):
        get_logger("daemon").warning("state_files_repaired", outcome=outcome)
    lock = StateLock(config.state_dir)
    lock.acquire()
    remove_leftovers(config.state_dir)
    try:
        yield
    finally:
        lock.release()


def _open_store(config: Config, options: Options) -> Store:
    log = get_logger("daemon")

    with contextlib.ExitStack() as stack:

        def announce(upgrade: Upgrade) -> None:
            log.info("state_upgrade_started", before=upgrade.before, after=upgrade.after)
            stack.enter_context(longer_start())

        store = Store.open(
            config.state.url,
            state_dir=config.state_dir,
            create=options.create,
            key_file=Path(config.master_key.file),
            announce=announce,
        )
    if (done := store.upgraded) is not None:
        copy = str(done.copy or "")
        log.info("state_upgraded", before=done.before, after=done.after, duration_ms=round(done.duration_s * 1000), copy=copy)
    return store


def _keys(config: Config, store: Store, options: Options) -> KeyRing:
    stored = store.get_meta("key.check")
    keyring = load_keyring(config, stored_check=stored, create_allowed=options.create and stored is None)
    if (
        stored != keyring.current.check_value and not options.read_only
    ):  # created now, or rotated with the previous key configured
        store.set_meta("key.check", keyring.current.check_value)
    store.use_audit_keys(audit_keys(keyring))
    known = store.get_meta("owner")
    if (known is None or (known != config.owner and _blank(store))) and not options.read_only:
        store.set_meta("owner", config.owner)
    elif known is not None and known != config.owner:
        raise StateError(
            f"this state belongs to owner {known!r}, the configuration says {config.owner!r}",
            code="RC7010",
            hint="Set `owner` back, or use another state: an owner never takes over another's objects by itself.",
        )
    return keyring


def audit_keys(keyring: KeyRing) -> list[AuditKey]:
    """Return the keys of the audit log, the active one first."""
    keys = (keyring.current, keyring.previous)
    return [AuditKey(key.key_id, key.derive("audit")) for key in keys if key is not None]


def _seal(store: Store, actor: str) -> None:
    """Sign the rows that were written before there was a key, or with the previous key."""
    store.seal_audit(
        AuditEntry(at=store.now(), actor=actor, verb=SEAL, detail={"reason": "signed with the active key from here on"})
    )
    _keep_anchor(store)


def _keep_anchor(store: Store) -> None:
    try:
        if store.keep_anchor() is None:
            get_logger("daemon").error(
                "anchor_write_failed", error="the audit log contradicts it: see `reconciler history --verify`"
            )
    except (OSError, ValueError, StateError) as error:
        get_logger("daemon").warning("anchor_write_failed", error=type(error).__name__)


def _blank(store: Store) -> bool:
    """Whether nothing was applied with this state yet: a first start with a wrong `source.url` must not bind it to an owner."""
    return not (store.recorded() or store.unsettled() or store.connections() or store.resources())


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def daemon_actor() -> str:
    """Return the actor of the daemon in the audit log: host and process."""
    return f"daemon:{socket.gethostname()}:{os.getpid()}"
