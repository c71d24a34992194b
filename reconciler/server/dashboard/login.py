"""Login by a token of the API, and logout. The session is a new cookie each time: one from before the login is never taken over."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from reconciler.config.values import ApiToken
from reconciler.log import get_logger
from reconciler.model.errors import StateError
from reconciler.server.api.access import FailedLoginThrottle, Tokens, TooMany
from reconciler.server.dashboard.responses import redirect
from reconciler.server.dashboard.sessions import LIFETIME_S, LOGIN_S, CookieSealer, LoginAttempt, LoginSession, new_id
from reconciler.server.dashboard.visitors import ForeignForm, LoginRequired, Visitor, Visitors
from reconciler.state.async_store import AsyncStore

MAX_TOKEN = 4_096
LEARN_S = 1.0
_AGAIN = "Open the page again: it was open for too long, or this browser refuses cookies."


class Login:
    """Sets and removes the session cookie."""

    def __init__(
        self,
        tokens: Sequence[ApiToken],
        visitors: Visitors,
        sealer: CookieSealer,
        *,
        throttle: FailedLoginThrottle,
        clock: Callable[[], float],
        url: Callable[[str], str],
        store: AsyncStore,
    ) -> None:
        self._tokens = Tokens(tokens)
        self._visitors = visitors
        self._sealer = sealer
        self._throttle = throttle
        self._clock = clock
        self._url = url
        self._store = store
        self._learned_at = float("-inf")
        self._log = get_logger("dashboard")

    async def learn_ended(self) -> None:
        """Read which sessions were ended, at most once in `LEARN_S`: a logout at one daemon ends the session at all of them."""
        now = time.monotonic()
        if now - self._learned_at < LEARN_S:
            return
        self._learned_at = now
        try:
            ended = await self._store.ended_sessions()
            self._sealer.refuse_before = await self._store.restored_at() or float("-inf")
        except StateError:  # without the state no page is shown, and no action runs; files and the login form need none
            return
        self._sealer.learn(ended, self._clock())

    def begin(self, back: str, *, nonce: str = "", verifier: str = "") -> LoginAttempt:
        """Return a new attempt, which `remember` puts into a cookie."""
        return LoginAttempt(id=new_id(), until=self._clock() + LOGIN_S, back=local_path(back), nonce=nonce, verifier=verifier)

    def form_token(self, attempt: LoginAttempt) -> str:
        """Return the token of the login form of ``attempt``."""
        return self._sealer.form_token(attempt)

    def remember(self, answer: Response, attempt: LoginAttempt, *, is_lax: bool = False) -> None:
        """Put an attempt into a cookie of this browser. ``is_lax``: it is sent when another site leads here, as an OIDC provider does."""
        self._set(answer, self._visitors.login_cookie, self._sealer.seal(attempt), LOGIN_S, is_lax=is_lax)

    def attempt(self, request: Request) -> LoginAttempt | None:
        """Return the attempt of this browser, or None."""
        return self._sealer.open(LoginAttempt, request.cookies.get(self._visitors.login_cookie, ""), self._clock())

    def by_token(self, request: Request, fields: Mapping[str, str]) -> Response:
        """Log in with a token. Raises `ForeignForm`, `LoginRequired` for a token that is not known, and `TooMany`."""
        attempt = self.attempt(request)
        if attempt is None or not self._sealer.is_form_token(attempt, fields.get("form", "")):
            raise ForeignForm("the login form is not valid any more", hint=_AGAIN)
        presented = fields.get("token", "").strip()
        token = self._tokens.find(presented) if len(presented) <= MAX_TOKEN else None
        peer = request.client.host if request.client is not None else "?"
        if token is None:
            if not self._throttle.failed(peer):
                raise TooMany("too many wrong tokens from this address", hint="Wait a minute.")
            self._log.warning("dashboard_login_refused", peer=peer)
            raise LoginRequired(
                "the token is not known", hint="Use a token that `server.tokens` has; the configuration keeps its hash."
            )
        answer = redirect(self._url(attempt.back))
        self.accept(answer, attempt, token.name, self._visitors.proof_of(token), peer=peer)
        return answer

    def accept(self, answer: Response, attempt: LoginAttempt, name: str, proof: str, *, role: str = "", peer: str) -> None:
        """Begin a session in the browser that gets ``answer``; the attempt cannot be used again."""
        self._sealer.end(attempt, self._clock())
        self._log.info("dashboard_login", by=name, peer=peer)
        session = LoginSession(new_id(), self._clock() + LIFETIME_S, name, role, proof)
        self._set(answer, self._visitors.cookie, self._sealer.seal(session), LIFETIME_S)
        self._drop(answer, self._visitors.login_cookie)

    async def out(self, visitor: Visitor) -> Response:
        """End the session, at every daemon and in every copy of its cookie."""
        if visitor.session is not None:
            self._sealer.end(visitor.session, self._clock())
            await self._store.end_session(visitor.session.id, visitor.session.until)
        answer = redirect(self._url("/login"))
        self._drop(answer, self._visitors.cookie)
        return answer

    def _set(self, answer: Response, name: str, value: str, age_s: int, *, is_lax: bool = False) -> None:
        answer.set_cookie(
            name,
            value,
            max_age=age_s,
            path="/",
            httponly=True,
            secure=self._visitors.is_https,
            samesite="lax" if is_lax else "strict",
        )

    def _drop(self, answer: Response, name: str) -> None:
        answer.delete_cookie(name, path="/", httponly=True, secure=self._visitors.is_https, samesite="strict")


def local_path(text: str) -> str:
    """Return ``text`` if it is a path of the dashboard, else ``/``: a login or a form never leads to another site."""
    if not text.startswith("/") or text.startswith(("//", "/\\")) or not text.isprintable() or "\\" in text or len(text) > 1_000:
        return "/"
    try:
        parts = urlsplit(text)
    except ValueError:
        return "/"
    return text if not parts.scheme and not parts.netloc else "/"
