"""The admin socket, by which commands act on a running daemon: a Unix socket with mode 0600 in the state folder.

Request and answer are one line of JSON each: ``{"verb": "suspend", …}`` → ``{"ok": true, …}`` or ``{"ok": false, "code", "message",
"hint"}``. A process that can open the file has full access; there is no other authentication.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from reconciler.log import get_logger
from reconciler.model.errors import ReconcilerError, StateError, UsageError, storage_error

if TYPE_CHECKING:
    from reconciler.server.api.handlers import Backend

Handler = Callable[[Mapping[str, Any], str], Awaitable[Mapping[str, Any]]]
_log = get_logger("admin")
MAX_LINE = 4 << 20
"""More than the largest payload of ``trigger``, escaped."""
SOCKET = "admin.sock"
_CREDENTIALS = struct.Struct("3i")
"""struct ucred: pid, uid, gid."""


class _Refusal(msgspec.Struct):
    """The answer to a request that failed, with the exit code of the command."""

    message: str = "refused"
    code: str = "RC8003"
    hint: str = ""
    exit: int = 1


class AdminOperations:
    """Runs the operations that the socket offers."""

    def __init__(self, backend: Backend) -> None:
        from reconciler.server.api.operations import SOCKET_OPERATIONS

        self._backend = backend
        self._operations = SOCKET_OPERATIONS

    async def handle(self, request: Mapping[str, Any], peer: str) -> Mapping[str, Any]:
        """Answer one request; ``peer`` is ``uid:1000``. Raises `ReconcilerError` if the operation fails."""
        operation = self._operations.get(str(request.get("verb")))
        if operation is None:
            raise UsageError(f"the daemon does not know the verb {request.get('verb')!r}")
        answer = await operation.handler(self._backend, request, person(peer))
        if not isinstance(answer, Mapping):
            raise TypeError(f"{operation.name} is not an operation of the socket")
        return answer


def person(peer: str) -> str:
    """Return the local user's name for ``uid:1000``, as manifests name approvers; ``peer`` itself if the uid has no name."""
    number = peer.removeprefix("uid:")
    try:
        return pwd.getpwuid(int(number)).pw_name
    except (KeyError, ValueError):
        return peer


class AdminServer:
    """Listens on the socket; ``handler`` gets the request and the peer (``uid:1000``)."""

    def __init__(self, folder: Path, handler: Handler) -> None:
        self._path = folder / SOCKET
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._busy: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Listen. This process holds the lock of the state folder, so an existing socket file is stale."""
        before = os.umask(0o177)
        try:
            self._path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._serve, path=_short(self._path), limit=MAX_LINE)
        except OSError as error:
            raise storage_error(error, f"the admin socket {self._path}") from None
        finally:
            os.umask(before)

    async def stop(self) -> None:
        """Stop listening, wait up to 2 s for answers in progress, and remove the file."""
        if self._server is not None:
            self._server.close()
        if self._busy:
            await asyncio.wait(self._busy, timeout=2)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._busy.add(task)
            task.add_done_callback(self._busy.discard)
        try:
            line = await reader.readline()
            answer = await self._answer(line, _peer(writer))
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (ConnectionError, ValueError, asyncio.IncompleteReadError):
            pass  # the peer has closed the connection, or sent a line over the limit
        finally:
            writer.close()

    async def _answer(self, line: bytes, peer: str) -> Mapping[str, Any]:
        try:
            request: object = json.loads(line)
            json.dumps(request, ensure_ascii=False).encode()  # half a surrogate pair cannot be stored
        except (ValueError, RecursionError):
            return {"ok": False, "code": "RC8001", "message": "not JSON", "hint": ""}
        try:
            if not isinstance(request, dict) or not isinstance(request.get("verb"), str):
                return {"ok": False, "code": "RC8001", "message": "not a request of this protocol", "hint": ""}
            return {"ok": True, **await self._handler(request, peer)}
        except ReconcilerError as error:
            return {"ok": False, "code": error.code, "message": error.message, "hint": error.hint, "exit": error.exit_code}
        except Exception as error:  # a defect becomes an answer here, and nowhere else  # noqa: BLE001
            _log.error("admin_error", error=type(error).__name__, exc_info=True)
            return {
                "ok": False,
                "code": "RC9001",
                "message": f"a defect of this program: {type(error).__name__}",
                "hint": "See the log.",
            }


def _peer(writer: asyncio.StreamWriter) -> str:
    """Return the uid of the peer as the kernel reports it (SO_PEERCRED, unix(7))."""
    sock: socket.socket = writer.get_extra_info("socket")
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(credentials)[1]
    return f"uid:{uid}"


def _short(path: Path) -> str:
    """Return the shorter of the absolute and the relative path, to fit into sun_path (107 bytes)."""
    return min(str(path), os.path.relpath(path), key=len)


class NoDaemon(StateError):
    """Nothing listens on the admin socket."""

    code = "RC8002"


def call(folder: Path, request: Mapping[str, Any], *, timeout_s: float = 30.0) -> Mapping[str, Any]:
    """Send ``request`` to the daemon of ``folder`` and return its answer. Raises `NoDaemon`, or the error it answers with."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect(_short(folder / SOCKET))
            sock.sendall(json.dumps(dict(request)).encode() + b"\n")
            data = b""
            while not data.endswith(b"\n"):
                part = sock.recv(65_536)
                if not part:
                    break
                data += part
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NoDaemon("no daemon is running on this state", hint="Start `reconciler run`.") from error
    except PermissionError as error:
        raise StateError(
            f"{folder / SOCKET} is not accessible for this user",
            code="RC8003",
            hint="Run the command as the user of the daemon, for example with sudo -u.",
        ) from error
    except TimeoutError as error:
        raise StateError(
            f"the daemon did not answer within {timeout_s:.0f} s", code="RC8003", hint="See its log and /healthz."
        ) from error
    if not data:
        raise StateError("the daemon closed the connection without an answer", code="RC8003", hint="See its log.")
    answer = msgspec.json.decode(data, type=dict[str, Any])
    if not answer.get("ok"):
        refusal = msgspec.convert(answer, _Refusal)
        refused = ReconcilerError(refusal.message, code=refusal.code, hint=refusal.hint)
        refused.exit_code = refusal.exit
        raise refused
    return answer
