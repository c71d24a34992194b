"""The driver as a GitHub App, over HTTP against the strict simulator."""

import asyncio
import contextlib
import dataclasses
import json
import time
from contextlib import asynccontextmanager

import pytest
from joserfc.jwk import RSAKey

from reconciler.drivers.auth import TokenCache
from reconciler.drivers.github.driver import driver
from reconciler.drivers.http.budget import UNLIMITED, Budget
from reconciler.drivers.http.client import ApiClient, HttpSession
from reconciler.model.errors import (
    AuthFailed,
    Declined,
    NotFound,
    PermissionDenied,
    ProviderUnavailable,
    RateLimited,
    ReconcilerError,
    ValidationFailed,
)
from reconciler.model.resources import Location, Resource, ResourceId, SecretRef
from reconciler.model.secrets import SecretValue
from tests.github.apps import create
from tests.support.authentication import auth_context
from tests.support.sandbox import LOOPBACK, connected

REF = SecretRef("default", "github", "key")
PEM = "/githubApp/privateKey"
MINT = r"access_tokens$"


class Clock:
    """The clock of this host, which a test turns."""

    def __init__(self, server):
        self.server, self.ahead_s = server, 0.0

    def __call__(self):
        return time.time() + self.ahead_s

    def turn(self, seconds, *, provider=True):
        self.ahead_s += seconds
        if provider:
            self.server.admin.settings(clock_skew_s=self.ahead_s)


def integration(app, account="acme", **settings):
    key = {"valueFrom": {"secret": {"name": "github", "key": "key"}}}
    auth = {"use": "github-app", "githubApp": {"clientId": app.client_id, "privateKey": key, **settings}}
    spec = {"type": "github", "url": f"https://github.com/{account}", "auth": auth}
    return Resource(ResourceId("Integration", "default", "github"), spec, Location("github.yaml", 1))


@asynccontextmanager
async def acting(server, app, *, pem="", clock=None, tokens=None, root="", **options):
    """A client of the driver that acts as ``app``."""
    clock = clock or Clock(server)
    connection = connected(driver, integration(app, **options), server.url + root, {PEM: REF})
    concealed = []
    async with HttpSession(allow=LOOPBACK) as session:
        context = auth_context(
            lambda _ref: SecretValue(pem or app.pem), session=session, clock=clock, tokens=tokens or TokenCache(clock)
        )
        context = dataclasses.replace(context, conceal=concealed.append)
        context = dataclasses.replace(context, send=type(context.send)(session, session.clock_of(connection.api_url, clock)))
        context = dataclasses.replace(context, provider_time=session.clock_of(connection.api_url, clock).now)
        budget = Budget(connection.credential_id, UNLIMITED, store=None, clock=clock)
        api = ApiClient(
            connection, driver, driver.authenticator(connection, context), session=session, budget=budget, clock=clock
        )
        api.concealed = concealed
        yield api


def mints(server):
    return [json.dumps(row["body"], sort_keys=True) for row in server.admin.requests(MINT, "POST")]


async def test_every_token_is_as_narrow_as_its_call_and_is_minted_once(github):
    app = create(github)
    number = github.admin.state()["repos"]["acme/payments"]["id"]
    async with acting(github, app) as api:
        for _ in range(3):
            await api.request("GET", "/repos/acme/web/hooks")
            await api.request("GET", f"/repositories/{number}/deployments")
            await api.request("POST", "/repos/acme/web/deployments", json={"ref": "main", "auto_merge": False})
    assert mints(github) == [
        '{"permissions": {"repository_hooks": "read"}, "repositories": ["web"]}',
        f'{{"permissions": {{"deployments": "read"}}, "repository_ids": [{number}]}}',
        '{"permissions": {"deployments": "write"}, "repositories": ["web"]}',
    ]
    assert len(github.admin.requests("/orgs/acme/installation")) == 1
    assert len(api.concealed) == 3


async def test_the_five_endpoints_of_deployments_work_by_the_id_of_the_repository(github):
    app = create(github)
    number = github.admin.state()["repos"]["acme/payments"]["id"]
    root = f"/repositories/{number}/deployments"
    async with acting(github, app) as api:
        made = (await api.request("POST", root, json={"ref": "main", "auto_merge": False})).json()
        assert [row["id"] for row in (await api.request("GET", root)).json()] == [made["id"]]
        assert (await api.request("GET", f"{root}/{made['id']}")).json()["creator"]["type"] == "Bot"
        await api.request("POST", f"{root}/{made['id']}/statuses", json={"state": "success"})
        assert [row["state"] for row in (await api.request("GET", f"{root}/{made['id']}/statuses")).json()] == ["success"]


async def test_three_hours_of_calls_fail_never_and_renew_a_token_before_it_ends(github):
    app, clock = create(github), Clock(github)
    async with acting(github, app, clock=clock) as api:
        for _ in range(3 * 12 + 1):
            await api.request("GET", "/repos/acme/web/hooks")
            clock.turn(300)
    assert [row["status"] for row in github.admin.requests() if row["status"] >= 400] == []
    assert len(mints(github)) == 4


async def test_calls_at_once_share_one_mint(github):
    app = create(github)
    async with acting(github, app) as api:
        await asyncio.gather(*(api.request("GET", "/repos/acme/web/hooks") for _ in range(20)))
    assert len(mints(github)) == 1


@pytest.mark.parametrize("ahead_s", [600, -600])
async def test_a_clock_that_is_ten_minutes_off_is_corrected_by_the_answer(github, ahead_s):
    app, clock = create(github), Clock(github)
    clock.turn(ahead_s, provider=False)
    async with acting(github, app, clock=clock) as api:
        await api.request("GET", "/repos/acme/web/hooks")
        assert (await driver.check(api, {})).valid
    async with acting(github, app, clock=clock) as api:
        assert (await driver.check(api, {})).valid
    assert len(mints(github)) == 1


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ("pem", AuthFailed, "private key does not belong to this App"),
        ("text", AuthFailed, "no RSA private key in PEM form"),
        ("id", AuthFailed, "no App with this id"),
        ("account", AuthFailed, "is not installed on globex"),
        ("removed", AuthFailed, "is not installed on acme"),
        ("fixed", AuthFailed, "installation was removed, or belongs to another App"),
        ("suspended", AuthFailed, "unsuspend"),
        ("permission", PermissionDenied, "does not give actions: read on acme/web"),
        ("repository", PermissionDenied, "does not give repository_hooks: read on acme/web"),
    ],
)
async def test_each_refusal_is_an_error_of_its_own_and_is_not_repeated_within_a_minute(github, change, kind, words):
    github.admin.put_state({"orgs": {"globex": {}}})
    app = create(github, repositories=["acme/payments"] if change == "repository" else None)
    options, path = {}, "/repos/acme/web/hooks"
    if change == "pem":
        options["pem"] = RSAKey.generate_key(2048).as_pem(private=True).decode()
    elif change == "text":
        options["pem"] = "hello"
    elif change == "id":
        app.client_id = "Iv23nobody"
    elif change == "account":
        options["account"], path = "globex", "/repos/globex/web/hooks"
    elif change in ("removed", "suspended"):
        github.admin.do(
            {"removed": "delete_installation", "suspended": "suspend_installation"}[change], installation=app.installation
        )
    elif change == "fixed":
        options["installationId"] = 5
    elif change == "permission":
        path = "/repos/acme/web/actions/runs"
    clock = Clock(github)
    async with acting(github, app, clock=clock, **options) as api:
        for _ in range(5):
            with pytest.raises(kind) as caught:
                await api.request("GET", path)
            assert words in f"{caught.value.message} {caught.value.hint}"
        sent = len(github.admin.requests())
        clock.turn(61)
        with pytest.raises(kind):
            await api.request("GET", path)
        assert len(github.admin.requests()) <= 2 * sent
    assert len(github.admin.requests(MINT)) <= 2


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"status": 401, "body": {"message": "Bad credentials"}}, AuthFailed),
        ({"status": 403, "body": {"message": "You have exceeded a secondary rate limit."}}, RateLimited),
        ({"status": 403, "body": {"message": "Resource not accessible by integration"}}, PermissionDenied),
        ({"status": 404, "body": {"message": "Not Found"}}, AuthFailed),
        ({"status": 429, "headers": {"retry-after": "30"}, "body": {"message": "slow down"}}, RateLimited),
        ({"status": 500, "body": {"message": "Server Error"}}, ProviderUnavailable),
        ({"status": 502, "headers": {"content-type": "text/html"}, "body": "<html>Bad gateway</html>"}, ProviderUnavailable),
        ({"status": 200, "headers": {"content-type": "text/html"}, "body": "<html>Sign in</html>"}, ProviderUnavailable),
        ({"effect": "malformed"}, ReconcilerError),
        ({"effect": "reset"}, ProviderUnavailable),
    ],
)
async def test_a_failed_mint_is_a_typed_error_and_one_request_a_minute(github, fault, kind):
    app, clock = create(github), Clock(github)
    github.admin.fault(method="POST", path=MINT, times=0, **fault)
    async with acting(github, app, clock=clock) as api:
        for _ in range(4):
            with pytest.raises(kind):
                await api.request("GET", "/repos/acme/web/hooks")
        assert len(mints(github)) == 1
        clock.turn(61)
        github.admin.clear_faults()
        await api.request("GET", "/repos/acme/web/hooks")


async def test_a_revoked_token_is_replaced_once_for_calls_at_once(github):
    app = create(github)
    async with acting(github, app) as api:
        await asyncio.gather(*(api.request("GET", f"/repos/acme/{name}/hooks") for name in ("web", "payments")))
        github.admin.put_state({"tokens": dict.fromkeys(t for t in github.admin.state()["tokens"] if t.startswith("ghs_"))})
        await asyncio.gather(*(api.request("GET", f"/repos/acme/{name}/hooks") for name in ("web", "payments") for _ in range(3)))
    assert len(mints(github)) == 4


async def test_an_app_that_was_installed_again_goes_on_at_once(github):
    app = create(github)
    async with acting(github, app) as api:
        await api.request("GET", "/repos/acme/web/hooks")
        github.admin.do("delete_installation", installation=app.installation)
        github.admin.do("install_app", app=app.id, account="acme")
        await api.request("GET", "/repos/acme/web/hooks")


async def test_an_app_that_was_installed_again_twice_within_a_minute_is_looked_up_again(github):
    app = create(github)
    async with acting(github, app) as api:
        await api.request("GET", "/repos/acme/web/hooks")
        for path in ("/repos/acme/web/hooks", "/repos/acme/web/deployments"):
            github.admin.do("delete_installation", installation=app.installation)
            app.installation = github.admin.do("install_app", app=app.id, account="acme")["installation"]
            with contextlib.suppress(AuthFailed):
                await api.request("GET", path)
        await api.request("GET", "/repos/acme/payments/hooks")


async def test_the_end_of_the_process_revokes_every_token(github):
    app = create(github)
    async with acting(github, app) as api:
        for path in ("/repos/acme/web/hooks", "/repos/acme/payments/hooks", "/repos/acme/web"):
            await api.request("GET", path)
        await api.close()
    assert [token for token in github.admin.state()["tokens"] if token.startswith("ghs_")] == []
    assert len(github.admin.requests("/installation/token", "DELETE")) == 3


async def test_a_token_that_covers_less_than_was_requested_is_not_used(github):
    app = create(github)
    body = {"token": "ghs_x", "expires_at": "2030-01-01T00:00:00Z", "permissions": {"metadata": "read"}}
    github.admin.fault(method="POST", path=MINT, status=201, body=body)
    async with acting(github, app) as api:
        with pytest.raises(PermissionDenied, match="issued a token without repository_hooks: read"):
            await api.request("GET", "/repos/acme/web/hooks")


async def test_the_check_reports_what_is_granted_missing_and_not_needed_with_the_page_to_approve_it(github):
    app = create(github, permissions={"deployments": "write", "contents": "read", "checks": "read"})
    github.admin.do("change_app", app=app.id, permissions={"deployments": "write", "contents": "read", "checks": "write"})
    needs = {"deployments": "write", "checks": "write", "webhooks": "write"}
    async with acting(github, app) as api:
        report = await driver.check(api, needs)
    page = f"https://github.com/organizations/acme/settings/installations/{app.installation}/permissions/update"
    settings = f"https://github.com/organizations/acme/settings/apps/{app.slug}/permissions"
    assert report.identity == f"GitHub App {app.slug} on acme (all repositories)"
    assert report.missing == (
        f"checks: write (grant it on {page})",
        f"repository_hooks: write (grant it on the App's settings, {settings}, then on {page})",
    )
    assert report.surplus == ("contents: read",)


async def test_a_conditional_request_costs_one_whole_answer_an_hour_since_the_etag_depends_on_the_token(github):
    app, clock, statuses = create(github), Clock(github), []
    async with acting(github, app, clock=clock) as api:
        tag = ""
        for _ in range(3 * 12):
            answer = await api.request("GET", "/repos/acme/web/hooks", headers={"if-none-match": tag} if tag else None)
            tag = answer.headers["etag"]
            statuses.append(answer.status)
            clock.turn(300)
    assert statuses.count(200) == 4
    assert statuses.count(304) == 32


async def test_an_app_needs_its_key_and_its_id(github):
    app = create(github)
    app.client_id = ""
    with pytest.raises(ValidationFailed, match="privateKey"):
        async with acting(github, app):
            pass


async def test_a_repository_that_is_not_there_is_not_found(github):
    app = create(github)
    github.admin.put_state({"repos": {"acme/web": {"private": True}}})
    async with acting(github, app) as api:
        with pytest.raises((NotFound, PermissionDenied, Declined)):
            await api.request("GET", "/repos/acme/nothing")
