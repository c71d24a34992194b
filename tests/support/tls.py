"""TLS before a server on loopback that has none: for clients that insist on https."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import trustme


@contextmanager
def tls_before(port: int, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield an https URL that leads to ``port``, and the PEM file of the authority that signed its certificate."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    pem = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(pem))

    class Handler(BaseHTTPRequestHandler):
        def _forward(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in {"host", "connection"}}
            answer = httpx.request(self.command, f"http://127.0.0.1:{port}{self.path}", content=content, headers=headers)
            self.send_response(answer.status_code)
            self.send_header("content-type", answer.headers.get("content-type", ""))
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = _forward

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"https://localhost:{server.server_port}", pem
    finally:
        server.shutdown()
        server.server_close()
