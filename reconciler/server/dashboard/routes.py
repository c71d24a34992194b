"""The routes of the dashboard. Every page has the same steps: who asks, read, render; every form: who, is it ours, may they, run, go back."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from reconciler.config.settings import ServerConfig
from reconciler.credentials.keys import KeyRing
from reconciler.credentials.redact import Redactor
from reconciler.drivers.http.clock import ProviderClock
from reconciler.drivers.http.exchange import TokenEndpoints
from reconciler.engine.current import Current
from reconciler.log import get_logger
from reconciler.model.errors import ReconcilerError
from reconciler.server.api.access import FailedLoginThrottle, Forbidden, roles_with
from reconciler.server.api.handlers import Backend
from reconciler.server.api.requests import headers_of, status_of
from reconciler.server.api.streams import LogStreams
from reconciler.server.dashboard import responses
from reconciler.server.dashboard.actions import ACTIONS
from reconciler.server.dashboard.live import Broadcaster, SharedPages, TooManyClients
from reconciler.server.dashboard.login import Login, local_path
from reconciler.server.dashboard.provider import CALLBACK, IdentityProvider, LoginRefused
from reconciler.server.dashboard.reader import Reader
from reconciler.server.dashboard.rendering import Renderer, offers
from reconciler.server.dashboard.responses import StaticFiles
from reconciler.server.dashboard.reviews import ReviewViews
from reconciler.server.dashboard.sessions import CookieSealer, new_id
from reconciler.server.dashboard.submissions import Submissions, form_fields
from reconciler.server.dashboard.views import NoPage, PageContent, Views
from reconciler.server.dashboard.visitors import ForeignForm, LoginRequired, OnlyLocal, Visitor, Visitors

MAX_SHARED_QUERY = 200
CHANGE = "reconciler-change"
"""Header of a request that `static/live.js` makes: the number of the change because of which it loads its page again."""
Endpoint = Callable[[Request], Awaitable[Response]]
View = Callable[[Mapping[str, str], Mapping[str, str]], Awaitable[PageContent]]
_STATUS: tuple[tuple[type[ReconcilerError], int], ...] = (
    (LoginRequired, 401),
    (OnlyLocal, 403),
    (ForeignForm, 403),
    (NoPage, 404),
    (LoginRefused, 403),
    (TooManyClients, 503),
)


@dataclass(frozen=True, slots=True)
class DashboardParts:
    """What the dashboard is made of."""

    backend: Backend
    current: Current
    redactor: Redactor
    keyring: KeyRing
    owner: str
    config: ServerConfig
    throttle: FailedLoginThrottle


class Dashboard:
    """The pages, forms and streams."""

    def __init__(self, parts: DashboardParts) -> None:
        config = parts.config
        self._backend = parts.backend
        self._redactor = parts.redactor
        self._static = StaticFiles()
        self._base = urlsplit(config.public_url).path.rstrip("/")
        self._renderer = Renderer(self._base, self._static)
        self._has_tokens = bool(config.tokens)
        self._sealer = CookieSealer(parts.keyring, parts.owner)
        self._provider = _provider(config, parts.current)
        proof = self._sealer.proof("oidc", *self._provider.parts) if self._provider is not None else ""
        self._proof = proof
        self._visitors = Visitors(config.tokens, self._sealer, public_url=config.public_url, clock=time.time, oidc_proof=proof)
        self._login = Login(
            config.tokens,
            self._visitors,
            self._sealer,
            throttle=parts.throttle,
            clock=time.time,
            url=self._renderer.url,
            store=parts.current.context.store,
        )
        self._reader = Reader(parts.backend, parts.current, parts.redactor)
        self._views = Views(self._reader)
        self._reviews = ReviewViews(parts.backend, parts.redactor)
        self._logs = LogStreams(parts.backend, parts.redactor)
        self._live = Broadcaster(self._fingerprint)
        self._shared = SharedPages()
        self._submissions = Submissions()
        self._log = get_logger("dashboard")

    async def close(self) -> None:
        """End all streams."""
        await self._live.close()

    def routes(self) -> tuple[BaseRoute, ...]:
        """Return the routes. A proxy in front may strip the path of `server.publicUrl` or not, so both forms are served."""
        views = self._views
        pages: tuple[tuple[str, View], ...] = (
            ("/", views.overview),
            ("/resources", views.resources),
            ("/resources/{kind}/{canvas}/{name}", views.resource),
            ("/graph", views.graph),
            ("/plan", views.plan),
            ("/executions", views.executions),
            ("/executions/{id}", views.execution),
            ("/executions/{id}/log", views.log),
            ("/events", views.events),
            ("/events/{id:path}", views.event),
            ("/credentials", views.credentials),
            ("/notifications", views.notifications),
            ("/reviews", views.reviews),
            ("/audit", views.audit),
            ("/reviews/{name}", self._reviews.review),
        )
        others: tuple[tuple[str, Endpoint, str], ...] = (
            ("/static/{name}", self._file, "GET"),
            ("/live", self._follow, "GET"),
            ("/executions/{id}/log/stream", self._follow_log, "GET"),
            ("/login", self._login_form, "GET"),
            ("/login", self._log_in, "POST"),
            ("/login/oidc", self._to_provider, "GET"),
            (CALLBACK, self._from_provider, "GET"),
            ("/logout", self._log_out, "POST"),
            ("/actions/{action}", self._act, "POST"),
        )
        routes: list[BaseRoute] = []
        for prefix in dict.fromkeys(("", self._base)):
            routes += [_route(prefix + path, self._guarded(endpoint), method) for path, endpoint, method in others]
            routes += [_route(prefix + path, self._guarded(self._page_of(view)), "GET") for path, view in pages]
        if self._base:
            routes.append(_route(self._base, self._guarded(self._page_of(views.overview)), "GET"))
        return (*routes, Route("/{rest:path}", self._guarded(self._nothing), methods=["GET"]))

    # -- pages --------------------------------------------------------------------------------------------------------

    def _page_of(self, view: View) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            visitor = self._visitors.visitor(request)
            if request.headers.get(CHANGE) == str(self._live.number) and len(request.url.query) < MAX_SHARED_QUERY:
                return await self._shared_page(request, visitor, view)
            return self._page(request, visitor, await view(request.path_params, request.query_params))

        return endpoint

    async def _shared_page(self, request: Request, visitor: Visitor, view: View) -> Response:
        """Return a page to a browser that replaces its content because of the newest change."""

        async def render() -> str:
            content = await view(request.path_params, request.query_params)
            return self._text(request, Visitor("", visitor.role, visitor.session), content, form_token=self._shared.token)

        key = (request.url.path, request.url.query, visitor.role, visitor.session is None)
        text = await self._shared.page(self._live.number, key, render)
        return responses.page(request, text.replace(self._shared.token, self._form_token(visitor)))

    async def _nothing(self, request: Request) -> Response:
        self._visitors.visitor(request)
        raise NoPage(f"there is no page {request.url.path[:200]}", hint="Begin at the overview.")

    def _page(self, request: Request, visitor: Visitor | None, content: PageContent, status: int = 200) -> Response:
        text = self._text(request, visitor, content, status, form_token=self._form_token(visitor))
        return responses.page(request, text, status)

    def _form_token(self, visitor: Visitor | None) -> str:
        return self._sealer.form_token(visitor.session) if visitor and visitor.session else ""

    def _text(
        self, request: Request, visitor: Visitor | None, content: PageContent, status: int = 200, *, form_token: str
    ) -> str:
        place = request.url.path.removeprefix(self._base) or "/"
        done = ACTIONS.get(request.query_params.get("done", ""))
        values = {
            **content.values,
            "title": content.title,
            "is_live": content.is_live and status == 200,
            "visitor": visitor,
            "place": place,
            "back": place + (f"?{query}" if (query := _without_done(request)) else ""),
            "form_token": form_token if visitor and visitor.session else "",
            "offers": offers(visitor) if visitor else {},
            "done": done.done if done is not None and status == 200 else "",
        }
        return self._renderer.render(content.template, values)

    def _guarded(self, endpoint: Endpoint) -> Endpoint:
        """Return ``endpoint`` with its errors as pages."""

        async def guarded(request: Request) -> Response:
            try:
                await self._login.learn_ended()
                return await endpoint(request)
            except ReconcilerError as error:
                return self._problem(request, error)
            except Exception as error:  # a defect becomes a page here, and nowhere else  # noqa: BLE001
                self._log.error("internal_error", page=request.url.path[:200], error=type(error).__name__, exc_info=True)
                defect = ReconcilerError("a defect of this program", code="RC9001", hint="See the log of the daemon.")
                return self._problem(request, defect, 500)

        return guarded

    def _problem(self, request: Request, error: ReconcilerError, status: int = 0) -> Response:
        status = status or next((code for kind, code in _STATUS if isinstance(error, kind)), status_of(error))
        if isinstance(error, LoginRequired) and request.method == "GET":
            return self._to_login(request)
        fields = self._redactor.redact_fields({"code": error.code, "message": error.message, "hint": error.hint})
        try:
            visitor = self._visitors.visitor(request)
        except ReconcilerError:
            visitor = None
        back = local_path(request.scope.get("back", "/"))
        content = PageContent("problem.html", str(fields["message"]), {"problem": fields, "status": status, "origin": back})
        answer = self._page(request, visitor, content, status)
        answer.headers.update(headers_of(status))
        return answer

    def _to_login(self, request: Request) -> Response:
        """Send the browser to the login and back. If a link of another site led here, let it ask once more first: the session cookie was not
        sent (SameSite=Strict), but it is when this page leads on.
        """
        query = f"?{request.url.query}" if request.url.query else ""
        target = local_path((request.url.path.removeprefix(self._base) or "/") + query)
        if request.headers.get("sec-fetch-site") == "cross-site" and request.headers.get("sec-fetch-mode") == "navigate":
            values = {"heading": "Opening the page", "target": self._renderer.url(target)}
            return self._page(request, None, PageContent("onward.html", "Opening the page", values, is_live=False))
        back = f"?{urlencode({'back': target})}" if target != "/" else ""
        return responses.redirect(self._renderer.url(f"/login{back}"))

    # -- forms --------------------------------------------------------------------------------------------------------

    async def _act(self, request: Request) -> Response:
        """Run an operation for the person who sent its form, and go back to the page."""
        visitor = self._visitors.visitor(request)
        fields = await form_fields(request)
        self._require_own(request, visitor, fields)
        action = ACTIONS.get(str(request.path_params["action"]))
        if action is None:
            raise NoPage("there is no such action")
        if not visitor.may(action.operation.access):
            roles = " or ".join(roles_with(action.operation.access))
            raise Forbidden(
                f"{visitor.name!r} is a {visitor.role}; this needs the role {action.operation.access.value}",
                hint=f"Log in with a token whose role in `server.tokens` is {roles}.",
            )
        back = local_path(fields.pop("back", "/"))
        values = action.checks.form(fields)

        async def run() -> None:
            await action.operation.handler(self._backend, values, visitor.name)

        if await self._submissions.once(visitor.name, action.operation.name, fields, run):
            self._log.info("dashboard_action", operation=action.operation.name, by=visitor.name)
        path, _, query = back.partition("?")
        kept = [(name, value) for name, value in parse_qsl(query) if name != "done"]
        return responses.redirect(self._renderer.url(f"{path}?{urlencode([*kept, ('done', action.operation.name)])}"))

    async def _log_in(self, request: Request) -> Response:
        self._visitors.check_form(request)
        fields = await form_fields(request)
        try:
            return self._login.by_token(request, fields)
        except LoginRequired as error:
            return self._form_page(request, error.message, 401)

    async def _log_out(self, request: Request) -> Response:
        visitor = self._visitors.visitor(request)
        self._require_own(request, visitor, await form_fields(request))
        return await self._login.out(visitor)

    async def _to_provider(self, request: Request) -> Response:
        """Send a person to the OIDC provider, and remember in this browser what was asked for."""
        if self._provider is None:
            raise NoPage("no OIDC provider is configured", hint="Log in with a token.")
        attempt = self._login.begin(
            request.query_params.get("back", "/"), nonce=new_id(), verifier=new_id() + new_id() + new_id()
        )
        answer = responses.redirect(await self._provider.address(attempt, self._login.form_token(attempt)))
        self._login.remember(answer, attempt, is_lax=True)
        return answer

    async def _from_provider(self, request: Request) -> Response:
        """Log in the person that the provider sent back to the browser that began. The page leads on by itself: the session cookie would
        not be sent on a redirect that another site began (SameSite=Strict).
        """
        attempt = self._login.attempt(request)
        state = request.query_params.get("state", "")
        if self._provider is None or attempt is None or not attempt.nonce or not self._sealer.is_form_token(attempt, state):
            raise ForeignForm("this login was not begun in this browser, or took too long", hint="Begin the login again.")
        peer = request.client.host if request.client is not None else "?"
        try:
            name, role = await self._provider.person(attempt, request.query_params)
        except LoginRefused:
            self._log.warning("dashboard_login_refused", peer=peer)
            raise
        finally:
            self._sealer.end(attempt, time.time())
        values = {"heading": f"Logged in as {name}", "target": self._renderer.url(attempt.back)}
        answer = self._page(request, None, PageContent("onward.html", "Logged in", values, is_live=False))
        self._login.accept(answer, attempt, name, self._proof, role=role, peer=peer)
        return answer

    async def _login_form(self, request: Request) -> Response:
        return self._form_page(request)

    def _form_page(self, request: Request, message: str = "", status: int = 200) -> Response:
        if not self._visitors.has_login:
            return responses.redirect(self._renderer.url("/"))
        known = self._login.attempt(request) if status != 200 else None
        attempt = self._login.begin(known.back if known is not None else request.query_params.get("back", "/"))
        values = {
            "message": message,
            "attempt": self._login.form_token(attempt),
            "provider": self._provider is not None,
            "token": self._has_tokens,
            "back_to": attempt.back,
        }
        answer = self._page(request, None, PageContent("login.html", "Log in", values, is_live=False), status)
        self._login.remember(answer, attempt)
        return answer

    def _require_own(self, request: Request, visitor: Visitor, fields: dict[str, str]) -> None:
        """Refuse a form that this dashboard did not give to this person. Raises `ForeignForm`."""
        self._visitors.check_form(request)
        token = fields.pop("form", "")
        request.scope["back"] = fields.get("back", "/")
        if visitor.session is None:
            raise ForeignForm("without a login the dashboard only shows", hint="Configure `server.tokens`, then log in.")
        if not self._sealer.is_form_token(visitor.session, token):
            raise ForeignForm("the form is not valid any more", hint="Go back, reload the page, and try again.")

    # -- streams ------------------------------------------------------------------------------------------------------

    async def _file(self, request: Request) -> Response:
        return self._static.answer(request)

    async def _follow(self, request: Request) -> Response:
        try:
            self._visitors.visitor(request)
        except LoginRequired:
            return Response(b"", 401, {**responses.HEADERS, "cache-control": "no-store"})
        headers = {**responses.HEADERS, "cache-control": "no-store", "x-accel-buffering": "no"}
        if request.method == "HEAD":
            return Response(b"", 200, headers, media_type="text/event-stream")
        return StreamingResponse(self._live.stream(), headers=headers, media_type="text/event-stream")

    async def _follow_log(self, request: Request) -> Response:
        visitor = self._visitors.visitor(request)
        values = {"id": request.path_params["id"], "cursor": request.query_params.get("cursor", "")[:4_000], "follow": "1"}
        return await self._logs.follow(values, visitor.name)

    async def _fingerprint(self) -> Sequence[Any]:
        """Return what changes when a page may look different. The objects are replaced when they change."""
        current = self._reader.current
        source, view = current.source, current.view
        fetched = source.fetched.id if source.fetched is not None else ""
        here = (view.statuses, dict(view.results), view.outside, fetched, source.applied, source.error, current.active.revision)
        return (*here, *await current.context.store.activity())


def _provider(config: ServerConfig, current: Current) -> IdentityProvider | None:
    if not config.login.oidc.issuer:
        return None
    send = TokenEndpoints(current.context.session, ProviderClock(current.context.clock))
    return IdentityProvider(config.login.oidc, send, config.public_url.rstrip("/") + CALLBACK)


def _without_done(request: Request) -> str:
    return urlencode([(name, value) for name, value in request.query_params.multi_items() if name != "done"])[:900]


def _route(path: str, endpoint: Endpoint, method: str) -> Route:
    """Return a route whose parts may contain any character. Starlette's own do not match a line break."""
    route = Route(path or "/", endpoint, methods=[method])
    route.path_regex = re.compile(route.path_regex.pattern, re.DOTALL)
    return route
