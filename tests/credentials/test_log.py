"""Logging as a reader sees it: real lines through the real chain."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from reconciler.credentials.redact import Redactor
from reconciler.log import get_logger
from reconciler.model.printable import plain

Logged = Callable[..., tuple[io.StringIO, Redactor]]
CANARY = "canary-s3cr3t-value"
HOSTILE = [
    "a\nb",
    "a\r\nts=now level=error",
    "\x1b[2J\x1b[31mred",
    "a\x00b",
    "\u202eabc",
    "\u2028x",
    "\x9b31m",
    "x\x7f",
    "\x85next",
]


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_the_keys_in_their_order(logged: Logged) -> None:
    out, _ = logged()
    get_logger("engine").info(
        "object_changed", code="RC1", outcome="created", kind="EventSource", name="a", canvas="default", extra=1, duration_ms=3
    )
    (row,) = lines(out)
    assert list(row) == ["ts", "level", "event", "kind", "name", "canvas", "outcome", "duration_ms", "code", "logger", "extra"]
    assert (row["level"], row["event"], row["logger"]) == ("info", "object_changed", "engine")
    assert row["ts"].endswith("Z")


def test_less_than_the_least_level_is_not_written(logged: Logged) -> None:
    out, _ = logged(level="warning")
    log = get_logger("x")
    log.debug("no")
    log.info("no")
    log.warning("yes")
    log.error("yes")
    logging.getLogger("other").info("no")
    assert [row["level"] for row in lines(out)] == ["warning", "error"]


@pytest.mark.parametrize("style", ["json", "console"])
def test_f5_known_values_and_tokens_are_in_no_field_key_or_error(style: str, logged: Logged) -> None:
    out, redactor = logged(style)
    redactor.add(CANARY)
    log = get_logger("x")
    log.info(
        "event",
        value=CANARY,
        nested={"a": [CANARY, {CANARY: 1}]},
        text=f"x{CANARY}y",
        header="Authorization: Bearer abcdefghijk12345",
    )
    try:
        raise ValueError(f"bad {CANARY}")
    except ValueError as error:
        log.error("failed", exc_info=True)
        log.error("failed", error=error)
        logging.getLogger("library").exception("library said %s", CANARY)
    shown = out.getvalue()
    assert CANARY not in shown
    assert "abcdefghijk12345" not in shown
    assert "ValueError: bad ***" in shown


def test_f5_a_logger_made_before_logging_was_configured_or_kept_over_a_reload_is_redacted(
    logged: Logged, capsys: pytest.CaptureFixture[str]
) -> None:
    early = get_logger("early")
    first, _ = logged()
    early.info("event", value="one")
    second, redactor = logged()
    redactor.add(CANARY)
    early.info("event", value=CANARY)
    assert [(row["logger"], row["value"]) for row in lines(first) + lines(second)] == [("early", "one"), ("early", "***")]
    assert "".join(capsys.readouterr()) == ""


@pytest.mark.parametrize("style", ["json", "console"])
def test_f6_a_traceback_has_no_local_variable(style: str, logged: Logged) -> None:
    out, _ = logged(style, level="debug")

    def inner() -> None:
        password = "local-" + "variable-canary"  # known to no redactor
        raise RuntimeError("broken" if password else "")

    try:
        inner()
    except RuntimeError as error:
        get_logger("x").error("failed", exc_info=error)
        get_logger("x").exception("failed")
        logging.getLogger("library").error("failed", exc_info=True)
    shown = out.getvalue()
    assert shown.count("RuntimeError: broken") == 3
    assert "in inner" in shown
    assert "local-variable-canary" not in shown


@pytest.mark.parametrize("style", ["json", "console"])
def test_n15_a_traceback_is_only_for_those_who_ask_for_it(style: str, logged: Logged) -> None:
    out, _ = logged(style, level="info")
    try:
        raise RuntimeError("broken")
    except RuntimeError as error:
        get_logger("x").error("failed", exc_info=error)
        logging.getLogger("library").error("failed", exc_info=True)
    shown = out.getvalue()
    assert "Traceback" not in shown
    assert len(shown.splitlines()) == 2
    assert shown.count("RuntimeError") == 2
    assert shown.count("test_log.py:") == 2


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(500)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def test_f7_the_http_client_writes_no_url_and_its_error_text_loses_its_credentials(logged: Logged) -> None:
    import httpx

    out, redactor = logged(level="info")
    redactor.add(CANARY)
    server = HTTPServer(("127.0.0.1", 0), _Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:

        async def call() -> None:
            async with httpx.AsyncClient(trust_env=False) as client:
                response = await client.get(f"http://user:pw-unknown@127.0.0.1:{server.server_port}/x?token={CANARY}")
                response.raise_for_status()

        with pytest.raises(httpx.HTTPStatusError) as caught:
            asyncio.run(call())
        assert CANARY in str(caught.value)
        assert out.getvalue() == ""
        get_logger("x").error("call_failed", error=str(caught.value), exc_info=caught.value)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert CANARY not in out.getvalue()
    assert "pw-unknown" not in out.getvalue()


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("style", ["json", "console"])
def test_f8_no_field_can_break_a_line_or_drive_a_terminal(style: str, hostile: str, logged: Logged) -> None:
    out, _ = logged(style)
    get_logger("x").info("event", branch=hostile, nested={"a": hostile}, **{f"key{hostile}": 1})
    logging.getLogger("library").warning("said %s", hostile)
    shown = out.getvalue()
    assert shown.count("\n") == 2
    assert len(shown.splitlines()) == 2
    assert all(c.isprintable() for c in shown.replace("\n", ""))


def test_f8_a_field_of_the_console_form_cannot_pretend_to_be_another(logged: Logged) -> None:
    out, _ = logged("console")
    get_logger("x").info("event", branch='x" code="RC1')
    assert 'branch="x\\" code=\\"RC1"' in out.getvalue()


def test_f8_a_hostile_event_is_escaped_in_the_console_form(logged: Logged) -> None:
    out, _ = logged("console")
    get_logger("x").info("event\n\x1b[31mx")
    assert out.getvalue().count("\n") == 1
    assert "\x1b" not in out.getvalue()


def test_clean_leaves_ordinary_text_alone() -> None:
    assert plain("Grüße, 日本語 – ok") == "Grüße, 日本語 – ok"


def test_auto_is_json_where_there_is_no_terminal_and_readable_lines_where_there_is(logged: Logged) -> None:
    out, _ = logged("auto")
    get_logger("x").info("event")
    assert lines(out)[0]["event"] == "event"

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    from reconciler.log import configure

    terminal = Terminal()
    configure("auto", "info", Redactor(), stream=terminal)
    get_logger("x").info("object_changed", name="a b")
    assert terminal.getvalue().rstrip().endswith('object_changed         name="a b"')


@pytest.mark.parametrize("name", ["httpx", "alembic", "apscheduler", "uvicorn.access", "sqlalchemy", "asyncio"])
def test_libraries_are_quiet_below_a_warning_and_go_through_the_same_chain_above(name: str, logged: Logged) -> None:
    out, redactor = logged()
    redactor.add(CANARY)
    logging.getLogger(name).info("no")
    logging.getLogger(name).warning("said %s", CANARY)
    assert [(row["logger"], row["message"], row["level"]) for row in lines(out)] == [(name, "said ***", "warning")]


def test_a_library_record_whose_arguments_do_not_fit_is_still_one_redacted_line(
    logged: Logged, capfd: pytest.CaptureFixture[str]
) -> None:
    out, redactor = logged()
    redactor.add(CANARY)
    logging.getLogger("library").error(f"%d items of {CANARY}", CANARY)
    assert [row["message"] for row in lines(out)] == ["%d items of ***"]
    assert CANARY not in "".join(capfd.readouterr())


def test_a_log_whose_reader_is_gone_does_not_stop_the_work(logged: Logged) -> None:
    from reconciler.log import configure

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    configure("json", "info", Redactor(), stream=Full())
    get_logger("x").info("event")
    closed = io.StringIO()
    configure("json", "info", Redactor(), stream=closed)
    closed.close()
    get_logger("x").info("event")


def test_lines_of_threads_are_never_torn(logged: Logged) -> None:
    out, _ = logged()

    def work(number: int) -> None:
        for _ in range(100):
            get_logger("x").info("event", number=number, text="y" * 200)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(out)) == 600


def test_importing_the_module_does_not_import_structlog() -> None:
    code = "import sys, reconciler.log, reconciler.config.load, reconciler.credentials.keys; print('structlog' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_real_process_writes_json_lines_on_stderr_and_nothing_on_stdout() -> None:
    code = textwrap.dedent(f"""
        from reconciler.credentials.redact import Redactor
        from reconciler.log import configure, get_logger
        redactor = Redactor(); redactor.add({CANARY!r})
        configure("auto", "info", redactor)
        get_logger("x").info("event", value={CANARY!r})
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert json.loads(done.stderr)["value"] == "***"
