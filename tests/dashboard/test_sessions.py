"""Cookies: who can read them, and when they end."""

import pytest

from reconciler.credentials.keys import KeyRing, MasterKey
from reconciler.server.dashboard.sessions import LIFETIME_S, LOGIN_S, MAX_ENDED, CookieSealer, LoginAttempt, LoginSession, new_id

OLD, KEY, OTHER = (MasterKey(bytes([number]) * 32) for number in (1, 2, 3))
NOW = 1_000.0
SESSION = LoginSession("one", NOW + 60, "ada", proof="p")


def _sealer(key: MasterKey = KEY, owner: str = "team-a", previous: MasterKey | None = None) -> CookieSealer:
    return CookieSealer(KeyRing(key, previous), owner)


def test_a_cookie_comes_back_as_it_was() -> None:
    sealer = _sealer()
    assert sealer.open(LoginSession, sealer.seal(SESSION), NOW) == SESSION
    assert sealer.seal(SESSION) != sealer.seal(SESSION)
    assert "ada" not in sealer.seal(SESSION)


@pytest.mark.parametrize("other", [_sealer(OTHER), _sealer(owner="team-b")])
def test_a_cookie_of_another_installation_is_refused(other: CookieSealer) -> None:
    assert other.open(LoginSession, _sealer().seal(SESSION), NOW) is None
    assert other.installation != _sealer().installation
    assert other.form_token(SESSION) != _sealer().form_token(SESSION)


def test_a_cookie_outlives_a_change_of_the_master_key() -> None:
    assert _sealer(previous=OLD).open(LoginSession, _sealer(OLD).seal(SESSION), NOW) == SESSION


def test_a_cookie_ends_by_time_and_by_hand() -> None:
    sealer = _sealer()
    text = sealer.seal(SESSION)
    assert sealer.open(LoginSession, text, NOW + 60) is None
    sealer.end(SESSION, NOW)
    assert sealer.open(LoginSession, text, NOW) is None
    for number in range(MAX_ENDED + 10):
        sealer.end(LoginSession(str(number), NOW + 1), NOW)
    assert len(sealer._ended) <= MAX_ENDED


def test_sessions_and_logins_from_before_a_restore_are_over() -> None:
    sealer = _sealer()
    before = [LoginSession("old", NOW - 1 + LIFETIME_S, "ada"), LoginAttempt("old", NOW - 1 + LOGIN_S)]
    since = [LoginSession("new", NOW + LIFETIME_S, "ada"), LoginAttempt("new", NOW + LOGIN_S)]
    assert [sealer.open(type(each), sealer.seal(each), NOW) for each in before] == before
    sealer.refuse_before = NOW
    assert [sealer.open(type(each), sealer.seal(each), NOW) for each in before] == [None, None]
    assert [sealer.open(type(each), sealer.seal(each), NOW) for each in since] == since


def test_a_cookie_of_one_kind_is_not_one_of_another() -> None:
    sealer = _sealer()
    attempt = LoginAttempt("one", NOW + 60)
    assert sealer.open(LoginSession, sealer.seal(attempt), NOW) is None
    assert sealer.open(LoginAttempt, sealer.seal(SESSION), NOW) is None


def test_a_changed_cookie_is_refused_wherever_it_was_changed() -> None:
    sealer = _sealer()
    text = sealer.seal(SESSION)
    for at in range(0, len(text), 3):
        changed = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
        assert sealer.open(LoginSession, changed, NOW) is None
    for junk in ("", "x", "é", "=" * 50, "A" * 5_000, text[:-4], text * 2):
        assert sealer.open(LoginSession, junk, NOW) is None


def test_the_token_of_a_form_belongs_to_one_session() -> None:
    sealer = _sealer()
    token = sealer.form_token(SESSION)
    assert sealer.is_form_token(SESSION, token)
    assert not sealer.is_form_token(LoginSession("two", NOW + 60, "ada"), token)
    assert not sealer.is_form_token(SESSION, "é" + token)
    assert new_id() != new_id()
