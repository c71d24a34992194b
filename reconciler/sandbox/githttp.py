"""A real Git remote over HTTP on loopback: ``git http-backend`` behind a small threaded server, with switches for faults."""

from __future__ import annotations

import base64
import contextlib
import http.server
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any


class GitHttpServer:
    """Serves the bare repositories below ``root``. Faults are attributes that may be set at any time.

    ``token``: required as the password of basic authentication. ``status``: answer every request with it (503, 404 …).
    ``mute``: accept and say nothing. ``redirect``: answer 302 to this URL. ``stall_pack``: send half of a pack, then nothing.
    """

    def __init__(self, root: Path, token: str = "") -> None:
        self.root = Path(root)
        self.token = token
        self.status = 0
        self.mute = False
        self.redirect = ""
        self.stall_pack = False
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.released = threading.Event()
        self._server: http.server.ThreadingHTTPServer | None = None

    def __enter__(self) -> GitHttpServer:
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop listening: from now on connections are refused."""
        self.released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    @property
    def port(self) -> int:
        """The port listened on."""
        if self._server is None:
            raise RuntimeError("the server is not running")
        return int(self._server.server_address[1])

    def url(self, repo: str) -> str:
        """Return the clone URL of ``root/repo``."""
        return f"http://127.0.0.1:{self.port}/{repo}"


class _Handler(http.server.BaseHTTPRequestHandler):
    owner: GitHttpServer
    protocol_version = "HTTP/1.0"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        owner = self.owner
        owner.requests.append((self.command, self.path, dict(self.headers)))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if owner.mute:
            owner.released.wait(60)
            return
        if owner.redirect:
            self._plain(302, b"", {"Location": owner.redirect})
        elif owner.status:
            self._plain(owner.status, b"fault\n")
        elif owner.token and not self._authorized():
            self._plain(401, b"", {"WWW-Authenticate": 'Basic realm="git"'})
        else:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._backend(body)

    def _authorized(self) -> bool:
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        return kind == "Basic" and base64.b64decode(value).decode().partition(":")[2] == self.owner.token

    def _plain(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _backend(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.owner.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "REMOTE_ADDR": "127.0.0.1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "HOME": "/nonexistent",
            "CONTENT_LENGTH": str(len(body)),
        }
        if protocol := self.headers.get("Git-Protocol"):
            env["GIT_PROTOCOL"] = protocol
        if encoding := self.headers.get("Content-Encoding"):
            env["HTTP_CONTENT_ENCODING"] = encoding
        git = shutil.which("git")
        if git is None:
            self._plain(500, b"git is not installed\n")
            return
        done = subprocess.run([git, "http-backend"], input=body, capture_output=True, env=env, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.owner.stall_pack and self.command == "POST" and len(content) > 600:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.owner.released.wait(60)
            return
        self.wfile.write(content)
