"""A collector that only answers (``ok``), or accepts connections and never answers (``deaf``). Prints its port."""

from __future__ import annotations

import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def main(how: str) -> None:
    if how == "ok":
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        print(server.server_port, flush=True)
        server.serve_forever()
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        print(deaf.getsockname()[1], flush=True)
        kept = []
        while True:
            kept.append(deaf.accept()[0])
            time.sleep(0)


if __name__ == "__main__":
    main(sys.argv[1])
