"""Who asks for a page: a person with a session, or, where nothing is configured for a login, anybody on this machine, who may only read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request

from reconciler.config.values import ApiToken
from reconciler.model.errors import ReconcilerError
from reconciler.model.values import is_loopback
from reconciler.server.api.access import GRANTS, Access
from reconciler.server.dashboard.sessions import CookieSealer, LoginSession

LOCAL = "local reader"
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_SAME_SITE = frozenset({"same-origin", "none"})


class LoginRequired(ReconcilerError):
    """The page needs a login."""

    code = "RC8301"


class OnlyLocal(ReconcilerError):
    """No login is configured, and the request does not come from this machine."""

    code = "RC8302"


class ForeignForm(ReconcilerError):
    """A form that this dashboard did not give to this person."""

    code = "RC8303"


@dataclass(frozen=True, slots=True)
class Visitor:
    """A person who looks at a page."""

    name: str
    role: str
    session: LoginSession | None = None
    """None without a login: then nothing but reading is allowed."""

    def may(self, access: Access) -> bool:
        """Whether this person may run an operation that requires ``access``."""
        return access in GRANTS[self.role] and (self.session is not None or access is Access.VIEWER)


class Visitors:
    """Tells visitors from their requests."""

    def __init__(
        self,
        tokens: Sequence[ApiToken],
        sealer: CookieSealer,
        *,
        public_url: str,
        clock: Callable[[], float],
        oidc_proof: str = "",
    ) -> None:
        self._tokens = {token.name: token for token in tokens}
        self._sealer = sealer
        self._oidc_proof = oidc_proof
        self._clock = clock
        self._public = urlsplit(public_url)
        self.is_https = self._public.scheme == "https"
        self.cookie = f"{'__Host-' if self.is_https else ''}reconciler-{sealer.installation}"
        """Name of the session cookie. Browsers accept the prefix only from the host itself, over https."""
        self.login_cookie = f"{self.cookie}-login"

    @property
    def has_login(self) -> bool:
        """Whether anybody can log in."""
        return bool(self._tokens or self._oidc_proof)

    def proof_of(self, token: ApiToken) -> str:
        """Return the fingerprint of a configured token."""
        return self._sealer.proof("token", token.name, token.sha256)

    def visitor(self, request: Request) -> Visitor:
        """Return who asks. Raises `LoginRequired`, or `OnlyLocal`."""
        if not self.has_login:
            return _local(request)
        session = self._sealer.open(LoginSession, request.cookies.get(self.cookie, ""), self._clock())
        role = self._role(session) if session is not None else ""
        if session is None or not role:
            raise LoginRequired("log in to see this page", hint="Use a token that `server.tokens` has.")
        return Visitor(session.name, role, session)

    def _role(self, session: LoginSession) -> str:
        """Return the role that the session has now; empty if what it rests on is gone."""
        if session.role:
            return session.role if self._oidc_proof and session.proof == self._oidc_proof and session.role in GRANTS else ""
        token = self._tokens.get(session.name)
        return token.role if token is not None and session.proof == self.proof_of(token) else ""

    def check_form(self, request: Request) -> None:
        """Refuse a form that another site sent (Fetch Metadata, and the Origin header). Raises `ForeignForm`.

        It is the second barrier: the cookie is not sent along from other sites, and the form's own token is checked as well.
        """
        site = request.headers.get("sec-fetch-site", "same-origin")
        origin = request.headers.get("origin", "")
        own = {f"{scheme}://{request.headers.get('host', '')}" for scheme in ("http", "https")}
        own.add(f"{self._public.scheme}://{self._public.netloc}")
        if site not in _SAME_SITE or (origin and origin not in own):
            raise ForeignForm("the form was sent by another site", hint="Open the dashboard itself and try again.")


def _local(request: Request) -> Visitor:
    """Return a reader if the request comes from this machine directly: the Host must be loopback too, since a page of another site can let
    its own name point here (DNS rebinding), and a proxy would let everybody in.
    """
    peer = request.client.host if request.client is not None else ""
    host = _without_port(request.headers.get("host", ""))
    if not is_loopback(peer) or not is_loopback(host) or any(name in request.headers for name in _FORWARDED):
        raise OnlyLocal(
            "without a login the dashboard answers only on the machine of the daemon",
            hint="Configure `server.tokens`, then log in with a token.",
        )
    return Visitor(LOCAL, "viewer")


def _without_port(host: str) -> str:
    if host.startswith("["):
        address, bracket, _ = host[1:].partition("]")
        return address if bracket else ""
    return host.partition(":")[0]
