"""What doctor asks the running daemon, and what it does without an answer."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from reconciler.cli import doctor
from reconciler.config.settings import Config
from reconciler.model.errors import StateError


@pytest.mark.parametrize("answer", [StateError("the daemon does not answer within 5 s", code="RC8003"), None])
def test_a_daemon_that_does_not_answer_ends_no_other_check(monkeypatch: pytest.MonkeyPatch, answer: StateError | None) -> None:
    def ask(*_: object, **__: object) -> Any:
        if answer is not None:
            raise answer

    report = SimpleNamespace(credentials=[SimpleNamespace(name="Integration/default/github", identity="bot", valid=True)])
    monkeypatch.setattr(doctor, "ask_daemon", ask)
    monkeypatch.setattr(doctor, "read", lambda _: report)
    monkeypatch.setattr(doctor, "age_s", lambda _report, now: time.time() - now)
    assert doctor._accepted_by_daemon(Config()) == {}
    monkeypatch.setattr(doctor, "ask_daemon", lambda *_, **__: {"ok": True})
    assert doctor._accepted_by_daemon(Config()) == {"Integration/default/github": "bot"}
