"""A page on 127.0.0.1 that sends one form to a web site, and takes the answer that the browser brings back.

Anybody on this host can connect to the port, and any web site can send a browser there. So the page has a path that nobody can guess,
it belongs to the first browser that opens it (a cookie), a callback counts only from that browser and with the `state` that the form was
sent with, and requests for another host or from another site are refused.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from reconciler.drivers.apps import AppForm
from reconciler.model.errors import ReconcilerError

HOST = "127.0.0.1"
REQUEST_S = 10.0
"""A browser that opens a connection and sends nothing holds a thread no longer."""
ANSWER_SENT_S = 3.0
"""The page stays this long for the browser to read the result."""
ANSWER_S = 120.0
"""The browser gets its answer within this time, whatever the exchange of the code does."""
_MOST_CODE = 512
_COOKIE = "reconciler_app"
_SUBMIT = 'document.getElementById("form").submit()'
_STYLE = "font: 16px/1.5 system-ui, sans-serif; max-width: 40em; margin: 4em auto; padding: 0 1em"


@dataclass(slots=True)
class Callback:
    """A callback that counts. Its browser waits for `answer`."""

    code: str
    _answer: queue.Queue[tuple[int, str]] = field(default_factory=lambda: queue.Queue(1))

    def answer(self, status: int, text: str) -> None:
        """Show ``text`` in the browser."""
        self._answer.put((status, text))

    def wait(self) -> tuple[int, str]:
        """Return status and text; a general text if there is none within `ANSWER_S`."""
        try:
            return self._answer.get(timeout=ANSWER_S)
        except queue.Empty:
            return HTTPStatus.GATEWAY_TIMEOUT, "There is no result yet. See the terminal."


class Loopback:
    """The page. ``form`` makes the form from the URL of the callback and the state."""

    def __init__(self, port: int, form: Callable[[str, str], AppForm], on_refusal: Callable[[str], None]) -> None:
        try:
            self._server = _PageServer((HOST, port), _PageHandler)
        except OSError as error:
            raise ReconcilerError(
                f"{HOST}:{port} is not available: {error.strerror or type(error).__name__}",
                code="RC4208",
                hint="Use another `--port`, or leave it out.",
            ) from None
        self._server.page = self
        self.port = self._server.server_port
        self._start = f"/{secrets.token_urlsafe(16)}"
        self._state = secrets.token_urlsafe(32)
        self._browser = secrets.token_urlsafe(32)
        self._opened = False
        self._on_refusal = on_refusal
        self._lock = threading.Lock()
        self._taken = False
        self._sent = threading.Event()
        self.callbacks: queue.Queue[Callback] = queue.Queue(1)
        try:
            self.form = form(f"http://{HOST}:{self.port}/callback", self._state)
        except BaseException:
            self._server.server_close()
            raise

    @property
    def url(self) -> str:
        """The page to open."""
        return f"http://{HOST}:{self.port}{self._start}"

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Answer requests within the block. Afterwards the port is closed."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            if self._taken:
                self._sent.wait(ANSWER_SENT_S)
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def wait(self, seconds: float) -> Callback:
        """Return the callback. Raises `ReconcilerError` (RC4205) if there is none in time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                return self.callbacks.get(timeout=min(left, 0.5))  # short, so that Ctrl-C is noticed
            except queue.Empty:
                continue
        raise ReconcilerError(
            f"no answer came back from the browser within {seconds:g} s",
            code="RC4205",
            hint="Run the command again and finish the registration in the browser. From another machine, forward the port: "
            "ssh -L PORT:127.0.0.1:PORT HOST, with `--no-browser --port PORT`.",
        )

    @property
    def cookie(self) -> str:
        """What ties the browser that opened the page to the callback. The redirect of another site sends it (``Lax``)."""
        return f"{_COOKIE}={self._browser}; Path=/; HttpOnly; SameSite=Lax"

    def get(self, path: str, headers: Message) -> tuple[int, str]:
        """Return status and HTML of the answer to a GET."""
        own = f"{HOST}:{self.port}"
        if headers.get_all("host", []) != [own]:
            return self._refuse(HTTPStatus.FORBIDDEN, f"The request names another host than {own}.")
        if headers.get("origin", f"http://{own}") != f"http://{own}":
            return self._refuse(HTTPStatus.FORBIDDEN, "The request comes from another site.")
        try:
            parts = urlsplit(path)
            query = parse_qs(parts.query, max_num_fields=20)
        except ValueError:
            return self._refuse(HTTPStatus.BAD_REQUEST, "The request has an invalid URL.")
        if hmac.compare_digest(parts.path.encode(), self._start.encode()):
            return self._opened_by(same=self._is_same(headers))
        if parts.path != "/callback":
            return HTTPStatus.NOT_FOUND, _page("There is nothing here. Open the URL that the terminal shows.")
        return self._callback(query, same=self._is_same(headers))

    def _is_same(self, headers: Message) -> bool:
        """Whether the request comes from the browser that opened the page."""
        texts = [part.strip() for line in headers.get_all("cookie", []) for part in line.split(";")]
        values = [text.removeprefix(f"{_COOKIE}=") for text in texts if text.startswith(f"{_COOKIE}=")]
        return any(hmac.compare_digest(value.encode(), self._browser.encode()) for value in values)

    def _opened_by(self, *, same: bool) -> tuple[int, str]:
        with self._lock:
            first, self._opened = not self._opened, True
        if first or same:
            return HTTPStatus.OK, self._form_page()
        return self._refuse(HTTPStatus.CONFLICT, "Another browser has opened this page already. Run the command again.")

    def sent(self, status: int, path: str) -> None:
        """Record that an answer was written: the one to the callback that counts is the last that anybody waits for."""
        if self._taken and status != HTTPStatus.CONFLICT and path.startswith("/callback"):
            self._sent.set()

    def _callback(self, query: dict[str, list[str]], *, same: bool) -> tuple[int, str]:
        states, codes = query.get("state", []), query.get("code", [])
        if len(states) != 1:
            return self._refuse(HTTPStatus.BAD_REQUEST, "The callback has no state, so it does not belong to this registration.")
        if not hmac.compare_digest(states[0].encode(), self._state.encode()):
            return self._refuse(
                HTTPStatus.BAD_REQUEST, "The callback has another state, so it does not belong to this registration."
            )
        if not same:
            return self._refuse(
                HTTPStatus.BAD_REQUEST, "The callback comes from another browser than the one that sent the form."
            )
        if len(codes) != 1 or not 0 < len(codes[0]) <= _MOST_CODE:
            return self._refuse(HTTPStatus.BAD_REQUEST, "The callback has no code.")
        with self._lock:
            first, self._taken = not self._taken, True
        if not first:
            return self._refuse(
                HTTPStatus.CONFLICT, "This registration has had its callback already. A second one changes nothing."
            )
        callback = Callback(codes[0])
        self.callbacks.put(callback)
        status, text = callback.wait()
        return status, _page(text)

    def _refuse(self, status: int, text: str) -> tuple[int, str]:
        self._on_refusal(text)
        return status, _page(text)

    def _form_page(self) -> str:
        inputs = "".join(
            f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
            for name, value in self.form.fields.items()
        )
        site = html.escape(urlsplit(self.form.url).netloc)
        return _page(
            f"This page sends the settings of the App to {site}, where you confirm them.",
            f'<form id="form" method="post" action="{html.escape(self.form.url)}">{inputs}<button>Continue at {site}</button></form>',
            script=_SUBMIT,
        )


def _policy() -> str:
    """Return the content security policy: the page runs its own script alone. The form may lead through any login page."""
    digest = base64.b64encode(hashlib.sha256(_SUBMIT.encode()).digest()).decode()
    return f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


def _page(text: str, body: str = "", script: str = "") -> str:
    """Return an HTML page; ``text`` is escaped, ``body`` is HTML."""
    scripts = f"<script>{script}</script>" if script else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>reconciler</title></head>'
        f'<body style="{_STYLE}"><p>{html.escape(text)}</p>{body}{scripts}</body></html>'
    )


class _PageServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True  # a fixed port can be used again at once; it takes no port from a listener
    page: Loopback

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: a browser that goes away in the middle of an answer is no error."""


class _PageHandler(BaseHTTPRequestHandler):
    server: _PageServer
    timeout = REQUEST_S
    server_version, sys_version = "reconciler", ""

    def do_GET(self) -> None:
        served = self.server.page
        status, page = served.get(self.path, self.headers)
        content = page.encode()
        self.send_response(status)
        if status == HTTPStatus.OK:
            self.send_header("set-cookie", served.cookie)
        for name, value in (
            ("content-type", "text/html; charset=utf-8"),
            ("content-length", str(len(content))),
            ("cache-control", "no-store"),
            ("referrer-policy", "strict-origin"),  # without an origin, a site may refuse the form
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("content-security-policy", _policy()),
            ("connection", "close"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        served.sent(status, self.path)

    def log_message(self, format: str, *args: object) -> None:
        """Write no log: a request line has the code and the state."""


__all__ = ["Callback", "Loopback"]
