"""Who may see a page without a login, and which forms are ours."""

import pytest
from starlette.requests import Request

from reconciler.config.values import ApiToken
from reconciler.credentials.keys import KeyRing, MasterKey
from reconciler.server.api.access import Access
from reconciler.server.dashboard.sessions import CookieSealer, LoginSession
from reconciler.server.dashboard.visitors import ForeignForm, LoginRequired, OnlyLocal, Visitor, Visitors

ADA = ApiToken("ada", "0" * 64, "approver")
SEALER = CookieSealer(KeyRing(MasterKey(b"k" * 32)), "team-a")


def _visitors(*tokens: ApiToken, public_url: str = "https://ci.example/tools", oidc_proof: str = "") -> Visitors:
    return Visitors(tokens, SEALER, public_url=public_url, oidc_proof=oidc_proof, clock=lambda: 1_000.0)


def _request(peer: str = "127.0.0.1", **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": raw, "client": (peer, 1), "query_string": b""})


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "127.8.9.1:80", "[::1]:8080"])
@pytest.mark.parametrize("peer", ["127.0.0.1", "::1"])
def test_without_a_login_this_machine_may_read_and_do_nothing(peer: str, host: str) -> None:
    visitor = _visitors().visitor(_request(peer, host=host))
    assert visitor.may(Access.VIEWER)
    assert not any(visitor.may(access) for access in (Access.OPERATOR, Access.APPROVER))


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("10.0.0.7", {"host": "localhost"}),
        ("127.0.0.1", {"host": "evil.example"}),
        ("127.0.0.1", {"host": "127.0.0.1.evil.example"}),
        ("127.0.0.1", {"host": ""}),
        ("127.0.0.1", {"host": "[::1"}),
        ("127.0.0.1", {}),
        ("127.0.0.1", {"host": "localhost", "x_forwarded_for": "10.0.0.7"}),
        ("127.0.0.1", {"host": "localhost", "forwarded": "for=10.0.0.7"}),
        ("", {"host": "localhost"}),
    ],
)
def test_without_a_login_nobody_else_sees_anything(peer: str, headers: dict[str, str]) -> None:
    """DNS rebinding comes from this machine with another host; a proxy comes from this machine for others."""
    with pytest.raises(OnlyLocal):
        _visitors().visitor(_request(peer, **headers))


def _cookie(visitors: Visitors, session: LoginSession) -> dict[str, str]:
    return {"cookie": f"{visitors.cookie}={SEALER.seal(session)}", "host": "localhost"}


def test_a_session_has_the_role_of_the_configuration_and_ends_with_its_token() -> None:
    visitors = _visitors(ADA)
    session = LoginSession("s", 2_000.0, "ada", proof=visitors.proof_of(ADA))
    assert visitors.visitor(_request(**_cookie(visitors, session))).role == "approver"
    demoted = _visitors(ApiToken("ada", ADA.sha256, "viewer"))
    assert demoted.visitor(_request(**_cookie(demoted, session))).role == "viewer"
    for changed in (_visitors(ApiToken("ada", "1" * 64, "approver")), _visitors(ApiToken("bob", ADA.sha256, "approver"))):
        with pytest.raises(LoginRequired):
            changed.visitor(_request(**_cookie(changed, session)))


def test_a_role_in_the_cookie_counts_only_with_the_provider_that_gave_it() -> None:
    session = LoginSession("s", 2_000.0, "ada@example", "approver", "now")
    trusted = _visitors(oidc_proof="now")
    assert trusted.visitor(_request(**_cookie(trusted, session))) == Visitor("ada@example", "approver", session)
    for other in (_visitors(ADA), _visitors(oidc_proof="changed")):
        with pytest.raises(LoginRequired):
            other.visitor(_request(**_cookie(other, session)))


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "127.0.0.1:80"},
        {"host": "127.0.0.1:80", "origin": "http://127.0.0.1:80", "sec_fetch_site": "same-origin"},
        {"host": "10.0.0.1", "origin": "https://ci.example"},
    ],
)
def test_our_own_forms_are_taken(headers: dict[str, str]) -> None:
    _visitors(ADA).check_form(_request(**headers))


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "ci.example", "origin": "null"},
        {"host": "ci.example", "origin": "https://evil.example"},
        {"host": "ci.example", "origin": "https://ci.example.evil.example"},
        {"host": "ci.example", "sec_fetch_site": "cross-site"},
        {"host": "ci.example", "sec_fetch_site": "same-site"},
        {"origin": "null"},
    ],
)
@pytest.mark.parametrize("public_url", ["", "https://ci.example"])
def test_forms_of_other_sites_are_refused(headers: dict[str, str], public_url: str) -> None:
    with pytest.raises(ForeignForm):
        _visitors(ADA, public_url=public_url).check_form(_request(**headers))
