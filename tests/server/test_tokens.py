"""Who may do what: the table of roles, wrong tokens, and how often they may be tried."""

import ast
import hashlib
from pathlib import Path

import pytest

from reconciler.config.values import ApiToken
from reconciler.server.api.access import (
    FAILURES,
    GRANTS,
    WINDOW_S,
    Access,
    FailedLoginThrottle,
    Forbidden,
    Tokens,
    Unauthorized,
    bearer,
)
from reconciler.server.api.operations import HTTP_OPERATIONS, OPERATIONS, SOCKET_OPERATIONS
from tests.server.asked import TOKENS, Asked

ROOT = Path(__file__).resolve().parents[2]
MAY = {
    "viewer": {"status", "events", "event", "executions", "execution", "logs", "resource"},
    "operator": {"trigger", "cancel", "rerun", "redeliver", "replay", "reconcile", "suspend", "resume"},
    "approver": {"approve", "approve_plan"},
}
"""What each role adds, written down by hand: the table that the program is held against."""


def _token(role: str) -> ApiToken:
    return ApiToken(f"the-{role}", hashlib.sha256(role.encode()).hexdigest(), role)


def test_every_operation_is_in_the_table_of_roles_and_a_viewer_can_do_nothing() -> None:
    listed = set().union(*MAY.values())
    assert {one.name for one in HTTP_OPERATIONS} == listed | {"openapi", "outputs"}
    assert all(one.method == "GET" for one in HTTP_OPERATIONS if one.name in MAY["viewer"])
    assert all(one.method == "POST" for one in HTTP_OPERATIONS if one.name in MAY["operator"] | MAY["approver"])
    assert not MAY["operator"] & MAY["approver"]


@pytest.mark.parametrize("role", ["viewer", "operator", "approver"])
def test_a_role_may_do_what_the_table_says_and_nothing_else(role: str) -> None:
    tokens = Tokens([_token(one) for one in GRANTS])
    may = MAY["viewer"] | MAY[role]
    for operation in HTTP_OPERATIONS:
        if operation.access in (Access.PUBLIC, Access.JOB):
            continue
        if operation.name in may:
            assert tokens.check(f"Bearer {role}", operation.access).name == f"the-{role}"
        else:
            with pytest.raises(Forbidden, match=operation.access.value):
                tokens.check(f"Bearer {role}", operation.access)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic viewer", "Bearer viewer x", "viewer", "Bearer " + "v" * 30_000]
)
def test_what_is_no_bearer_token_is_none(header: str) -> None:
    with pytest.raises(Unauthorized):
        Tokens([_token("viewer")]).check(header, Access.VIEWER)
    assert bearer(header) == ""


def test_without_tokens_nobody_may_do_anything() -> None:
    empty = ApiToken("empty", hashlib.sha256(b"").hexdigest(), "operator")
    for tokens in (Tokens([]), Tokens([empty])):
        with pytest.raises(Unauthorized):
            tokens.check("Bearer ", Access.VIEWER)


def test_a_peer_may_fail_so_often_in_a_minute_and_others_are_not_touched() -> None:
    now = [0.0]
    throttle = FailedLoginThrottle(lambda: now[0])
    assert all(throttle.failed("a") for _ in range(FAILURES))
    assert not throttle.failed("a")
    assert throttle.failed("b")
    now[0] = WINDOW_S + 1
    assert throttle.failed("a")


def test_what_is_remembered_of_peers_is_bounded() -> None:
    throttle = FailedLoginThrottle()
    for number in range(5_000):
        throttle.failed(str(number))
    assert len(throttle._failures) <= 4_096


def test_the_daemon_answers_401_with_a_challenge_403_with_the_role_and_429_after_too_many(asked: Asked) -> None:
    forbidden = asked.api("viewer", "POST", "/events", json={"source": "hand"})
    assert (forbidden.status_code, forbidden.json()["code"]) == (403, "RC8005")
    assert "operator" in forbidden.json()["message"]
    with asked.client() as client:
        answers = [client.get("/events", headers={"authorization": f"Bearer wrong-{n}"}) for n in range(FAILURES + 2)]
    assert answers[-1].status_code == 429
    assert answers[-1].headers["retry-after"]
    assert {one.status_code for one in answers} <= {401, 429}
    challenges = [one.headers["www-authenticate"] for one in answers if one.status_code == 401]
    assert all(one.startswith("Bearer") for one in challenges)
    assert asked.api("viewer", "GET", "/events").status_code == 200  # a good token is never refused for others' failures
    assert asked.api("", "GET", "/events").status_code == 401  # nothing was guessed
    assert asked.api("", "GET", "/openapi.json").status_code == 200
    assert not any(token in asked.log() for token in (*TOKENS.values(), "wrong-1"))
    assert "api_refused" in asked.log()


def test_an_operation_is_offered_over_http_or_by_the_socket_and_only_the_socket_needs_no_role() -> None:
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS)
    assert all(operation.path or operation.socket for operation in OPERATIONS)
    local = {"ping", "forget", "adopt", "oidc_documents", "oidc_rotate", "oidc_token", "review", "notify_test"}
    assert {name for name, operation in SOCKET_OPERATIONS.items() if not operation.path} == local
    assert all((operation.access is Access.LOCAL) is not bool(operation.path) for operation in OPERATIONS)


def test_the_cli_sends_only_operations_of_the_socket_and_every_one_of_them() -> None:
    sent: set[str] = set()
    for path in (ROOT / "reconciler" / "cli").rglob("*.py"):
        rows = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Dict)]
        entries = [entry for row in rows for entry in zip(row.keys, row.values, strict=True)]
        verbs = [value for key, value in entries if isinstance(key, ast.Constant) and key.value == "verb"]
        sent |= {str(value.value) for value in verbs if isinstance(value, ast.Constant)}
    assert sent == set(SOCKET_OPERATIONS)
