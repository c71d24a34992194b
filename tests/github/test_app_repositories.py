"""Many repositories behind one App: how many tokens, as narrow as what; the tags of their lists; repositories that moved."""

import asyncio
import dataclasses
import json

import pytest

from reconciler.drivers.common import PassApi
from reconciler.drivers.github import app_tags
from reconciler.drivers.github.app_tags import KnownBodies
from reconciler.drivers.github.app_tokens import MOST_REPOSITORIES, OWN_TOKENS
from reconciler.drivers.github.driver import driver
from reconciler.model.errors import AuthFailed, PermissionDenied, RateLimited, ReconcilerError, ValidationFailed
from reconciler.model.objects import NotModified, Observed, Scope
from reconciler.model.resources import Location, Resource, ResourceId
from tests.github.apps import create
from tests.github.conftest import foreign, put_hooks
from tests.github.test_app import MINT, Clock, acting, mints

COUNT = 1000
NAMES = [f"svc-{number:04}" for number in range(COUNT)]
HOOKS = driver.types["github/repository-webhook"]


@pytest.fixture
def many(github):
    github.admin.put_state({"repos": {f"acme/{name}": {"private": True} for name in NAMES}})
    github.admin.settings(clock_skew_s=0.0)
    return github


async def read(api, names, at_once=100):
    """Read the webhooks of each repository, so many at once."""
    limit = asyncio.Semaphore(at_once)

    async def one(name):
        async with limit:
            return await api.request("GET", f"/repos/acme/{name}/hooks")

    return await asyncio.gather(*(one(name) for name in names), return_exceptions=True)


async def test_a_thousand_repositories_cost_few_tokens_and_each_names_only_what_was_asked_for(many):
    app, clock = create(many), Clock(many)
    async with acting(many, app, clock=clock) as api:
        answers = await read(api, NAMES)
        assert {answer.status for answer in answers} == {200}
        first = mints(many)
        assert len(first) <= OWN_TOKENS + 60, len(first)
        rows = [json.loads(body) for body in first]
        assert {json.dumps(row["permissions"]) for row in rows} == {'{"repository_hooks": "read"}'}
        named = [name for row in rows for name in row["repositories"]]
        assert sorted(named) == sorted(NAMES)  # each repository in exactly one token
        await read(api, NAMES)
        assert len(mints(many)) == len(first)
        clock.turn(3600)
        many.admin.clear_requests()
        await read(api, NAMES, at_once=1)
        assert len(mints(many)) <= OWN_TOKENS + 4, "one after the other, tokens are renewed for all that shared them"
        assert max(len(json.loads(body)["repositories"]) for body in mints(many)) <= MOST_REPOSITORIES
        many.admin.clear_requests()
        await api.close()
        assert len(many.admin.requests("/installation/token", "DELETE")) <= OWN_TOKENS + 60
    tokens = many.admin.state()["tokens"]
    assert [token for token, row in tokens.items() if token.startswith("ghs_") and row["ends_at"] > clock()] == []


async def test_a_few_repositories_have_a_token_of_their_own(many):
    async with acting(many, create(many)) as api:
        await read(api, NAMES[:OWN_TOKENS])
    assert sorted(json.loads(body)["repositories"] for body in mints(many)) == [[name] for name in NAMES[:OWN_TOKENS]]


async def test_repositories_outside_the_installation_spoil_nothing_for_those_inside(many):
    inside = [name for number, name in enumerate(NAMES[:300]) if number % 100 != 77]
    app = create(many, repositories=[f"acme/{name}" for name in inside])
    clock = Clock(many)
    async with acting(many, app, clock=clock) as api:
        answers = await read(api, NAMES[:300])
        bad = [name for name, answer in zip(NAMES, answers, strict=False) if isinstance(answer, Exception)]
        assert bad == [name for name in NAMES[:300] if name not in inside]
        assert all(isinstance(answer, PermissionDenied) for answer in answers if isinstance(answer, Exception))
        assert next(answer.message for answer in answers if isinstance(answer, Exception)).count(f"acme/{bad[0]}") == 1
        count = len(many.admin.requests(MINT, "POST"))
        assert count < 120
        await read(api, NAMES[:300])
        assert len(many.admin.requests(MINT, "POST")) == count
        clock.turn(61)
        await read(api, NAMES[:300])
        assert len(many.admin.requests(MINT, "POST")) == count + len(bad), "each of them is tried alone from then on"


async def test_a_shared_token_is_renewed_before_it_ends(many):
    clock = Clock(many)
    async with acting(many, create(many), clock=clock) as api:
        await read(api, NAMES[:60])
        clock.turn(3400)
        many.admin.clear_requests()
        await read(api, NAMES[:60])
        assert sorted(name for body in mints(many) for name in json.loads(body)["repositories"]) == NAMES[:60]


@pytest.mark.parametrize(
    "fault", [{"status": 500}, {"status": 403, "body": {"message": "You have exceeded a secondary rate limit."}}]
)
async def test_a_failure_fails_all_that_wait_once_and_is_no_storm(many, fault):
    clock = Clock(many)
    async with acting(many, create(many), clock=clock) as api:
        await read(api, NAMES[:OWN_TOKENS])
        before = len(mints(many))
        many.admin.fault(method="POST", path=MINT, times=0, **fault)
        answers = await read(api, NAMES[OWN_TOKENS:200], at_once=200)
        assert all(isinstance(answer, ReconcilerError) for answer in answers)
        assert len(mints(many)) - before <= 3
        many.admin.clear_faults()
        clock.turn(61)
        assert {answer.status for answer in await read(api, NAMES[OWN_TOKENS:200])} == {200}


async def test_a_permission_that_is_not_granted_is_refused_once_for_all_that_wait(many):
    app = create(many, permissions={"contents": "read"})
    async with acting(many, app) as api:
        answers = await read(api, NAMES[:400], at_once=400)
    assert all(isinstance(answer, PermissionDenied) for answer in answers)
    assert len(mints(many)) <= 3 * OWN_TOKENS


async def test_shared_tokens_that_are_revoked_are_replaced(many):
    async with acting(many, create(many)) as api:
        await read(api, NAMES[:100])
        many.admin.put_state({"tokens": dict.fromkeys(t for t in many.admin.state()["tokens"] if t.startswith("ghs_"))})
        assert {answer.status for answer in await read(api, NAMES[:100])} == {200}


async def test_a_call_that_is_given_up_leaves_the_others_their_token(many):
    async with acting(many, create(many)) as api:
        await read(api, NAMES[:OWN_TOKENS])
        many.admin.settings(latency_s=0.3)
        calls = [asyncio.create_task(api.request("GET", f"/repos/acme/{name}/hooks")) for name in NAMES[30:40]]
        await asyncio.sleep(0.1)
        calls[0].cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [answer.status for answer in answers[1:]] == [200] * 9


async def test_a_new_token_that_github_does_not_know_yet_is_waited_for(github):
    """Not every server of GitHub has it at once (https://github.com/octokit/auth-app.js/issues/65)."""
    github.admin.settings(token_lag_s=1.2)
    async with acting(github, create(github)) as api:
        answers = await asyncio.gather(*(api.request("GET", "/repos/acme/web/hooks") for _ in range(20)))
        assert {answer.status for answer in answers} == {200}
    assert len(mints(github)) == 1
    assert len(github.admin.requests("/rate_limit")) <= 4


async def test_a_token_that_github_never_knows_is_a_refused_credential_and_no_storm(github):
    github.admin.settings(token_lag_s=3000)
    async with acting(github, create(github)) as api:
        answers = await asyncio.gather(*(api.request("GET", "/repos/acme/web/hooks") for _ in range(20)), return_exceptions=True)
        assert all(isinstance(answer, AuthFailed) for answer in answers)
    assert len(mints(github)) == 2
    assert len(github.admin.requests("/rate_limit")) <= 8


@pytest.mark.parametrize("ahead_s", [0, 900])
async def test_a_rate_limit_on_tokens_is_kept_until_the_time_that_github_names(github, ahead_s):
    app, clock = create(github), Clock(github)
    clock.turn(ahead_s, provider=False)

    def turn(seconds):
        clock.turn(seconds, provider=False)
        github.admin.settings(clock_skew_s=clock.ahead_s - ahead_s)

    limit = {"status": 403, "headers": {"retry-after": "300"}, "body": {"message": "You have exceeded a secondary rate limit."}}
    github.admin.fault(method="POST", path=MINT, times=1, **limit)
    async with acting(github, app, clock=clock) as api:
        await api.request("GET", "/app")  # shows GitHub's clock
        for turn_s in (0, 61, 100, 100):
            turn(turn_s)
            with pytest.raises(RateLimited) as caught:
                await api.request("GET", "/repos/acme/web/hooks")
        assert abs(caught.value.retry_at - (clock() - 261 + 300)) < 5
        assert len(mints(github)) == 1
        turn(60)
        await api.request("GET", "/repos/acme/web/hooks")


async def test_an_app_works_below_the_root_of_an_enterprise_server(github):
    app = create(github)
    github.admin.do("rename", **{"from": "acme/web", "to": "acme/site"})
    async with acting(github, app, root="/api/v3") as api:
        assert (await driver.check(api, {})).valid
        observed = await HOOKS.observe(api, Scope("github/repository-webhook", "acme/web"), None)
        assert observed.redirected_to == "acme/site"
        await api.close()
    assert [row["path"] for row in github.admin.requests() if row["status"] >= 400 and row["status"] != 422] == []


async def test_repositories_that_leave_the_installation_while_it_is_used_fail_alone(many):
    app, clock = create(many), Clock(many)
    async with acting(many, app, clock=clock) as api:
        await read(api, NAMES[:100])
        many.admin.do(
            "remove_repositories", installation=app.installation, repositories=[f"acme/{NAMES[50]}", f"acme/{NAMES[3]}"]
        )
        for turn_s in (0, 3600):
            clock.turn(turn_s)
            answers = await read(api, NAMES[:100])
            assert [i for i, answer in enumerate(answers) if isinstance(answer, Exception)] == [3, 50]


# -- repositories that moved ------------------------------------------------------------------------------------------------


async def test_a_renamed_repository_is_reached_by_its_former_name(github):
    """GitHub issues no token for a former name (https://github.com/open-software-network/os-clovy/pull/161)."""
    app = create(github)
    number = github.admin.state()["repos"]["acme/web"]["id"]
    github.admin.do("rename", **{"from": "acme/web", "to": "acme/site"})
    async with acting(github, app) as api:
        observed = await HOOKS.observe(api, Scope("github/repository-webhook", "acme/web"), None)
    assert isinstance(observed, Observed)
    assert observed.redirected_to == "acme/site"
    assert {json.dumps(json.loads(body).get("repository_ids")) for body in mints(github)} >= {f"[{number}]"}


async def test_a_repository_that_went_to_another_account_is_refused_with_a_reason(github):
    app = create(github)
    github.admin.put_state({"orgs": {"globex": {}}})
    github.admin.do("install_app", app=app.id, account="globex")
    github.admin.do("rename", **{"from": "acme/web", "to": "globex/web"})
    async with acting(github, app) as api:
        with pytest.raises(PermissionDenied, match="does not give repository_hooks: read"):
            await HOOKS.observe(api, Scope("github/repository-webhook", "acme/web"), None)
        with pytest.raises(PermissionDenied, match="globex/web does not belong to acme"):
            await api.request("GET", "/repos/globex/web/hooks")
        with pytest.raises(PermissionDenied, match="globex/web does not belong to acme"):
            await api.request("GET", "/repos/GLOBEX/web/hooks")
    assert not [body for body in mints(github) if "globex" in body]


async def test_a_source_of_a_repository_of_another_account_is_refused(github):
    """Its events come from another installation, so that it would never get one."""
    app = create(github, events=["push"])
    github.admin.put_state({"orgs": {"globex": {}}, "repos": {"globex/web": {}}})
    github.admin.do("install_app", app=app.id, account="globex")
    spec = {
        "integration": {"name": "github"},
        "resource": {"type": "repository", "name": "Globex/web"},
        "events": [{"type": "push"}],
    }
    source = Resource(ResourceId("EventSource", "default", "theirs"), spec, Location("s.yaml", 1))
    async with acting(github, app) as api:
        with pytest.raises(ValidationFailed, match="on acme does not contain globex/web") as caught:
            await driver.resolve(PassApi(api), source)
    assert caught.value.code == "RC4043"


# -- tags ---------------------------------------------------------------------------------------------------------------------


async def observed_for(github, clock, hours=3, steps=12):
    """Observe a list every five minutes; return the statuses of its GETs."""
    app, validators = create(github), None
    async with acting(github, app, clock=clock) as api:
        for _ in range(hours * steps):
            answer = await HOOKS.observe(api, Scope("github/repository-webhook", "acme/web"), validators)
            validators = validators if isinstance(answer, NotModified) else answer.validators
            clock.turn(3600 / steps)
    return [row["status"] for row in github.admin.requests("/repos/acme/web/hooks", "GET")]


async def test_g3_lists_stay_unchanged_through_the_hourly_change_of_the_token(github):
    put_hooks(github, [foreign(1), foreign(2)], "web")
    statuses = await observed_for(github, Clock(github))
    assert len(mints(github)) >= 3
    assert statuses == [200] + [304] * 35


async def test_g3_without_the_body_a_change_of_the_token_costs_one_answer(github, monkeypatch):
    monkeypatch.setattr(app_tags.BODIES, "tag_under", lambda tag, *_: tag)
    statuses = await observed_for(github, Clock(github))
    assert statuses.count(200) == 1 + len(mints(github)) - 1


async def test_g3_a_change_under_another_token_is_seen(github):
    app, clock, scope = create(github), Clock(github), Scope("github/repository-webhook", "acme/web")
    async with acting(github, app, clock=clock) as api:
        first = await HOOKS.observe(api, scope, None)
        clock.turn(3600)
        put_hooks(github, [foreign(7)], "web")
        second = await HOOKS.observe(api, scope, first.validators)
        assert [each.external_id for each in second.objects] == ["7"]
        clock.turn(3600)
        assert isinstance(await HOOKS.observe(api, scope, second.validators), NotModified)


async def test_g3_the_list_of_the_installation_costs_nothing_while_it_does_not_change(many):
    """A pass of a source with a glob reads all pages: 1,000 repositories are 11 requests, and none of the rate limit."""
    app, clock = create(many, events=["push"]), Clock(many)
    source = Resource(
        ResourceId("EventSource", "default", "all"),
        {"integration": {"name": "github"}, "resource": {"type": "repository", "match": "svc-*"}, "events": [{"type": "push"}]},
        Location("s.yaml", 1),
    )
    async with acting(many, app, clock=clock) as api:
        for _ in range(4):
            await driver.resolve(PassApi(api), source)
            clock.turn(1800)
        rows = many.admin.requests("/installation/repositories")
        assert [row["status"] for row in rows] == [200] * 11 + [304] * 33
        many.admin.do("delete_repository", repository="acme/svc-0999")
        many.admin.put_state({"repos": {"acme/new": {"private": True}}})
        named = dataclasses.replace(source, spec={**source.spec, "resource": {"type": "repository", "name": "new"}})
        number = many.admin.state()["repos"]["acme/new"]["id"]
        assert await driver.resolve(PassApi(api), named) == {"places": {"acme/new": str(number)}}


def test_bodies_that_are_known_are_bounded_by_their_size():
    known = KnownBodies(4000)
    bodies = {
        f'W/"{number}"': bytes([number]) * 10 + json.dumps(list(range(number, number + 300))).encode() for number in range(20)
    }
    for tag, body in bodies.items():
        known.keep(tag, body)
        known.tag_under('W/"0"', "Bearer x")  # the first one is used again and again
    changed = [tag for tag in bodies if known.tag_under(tag, "Bearer x") != tag]
    assert 'W/"0"' in changed
    assert 'W/"19"' in changed
    assert len(changed) < 10
    known.keep('"big"', b"x" * (2 << 20))
    assert known.tag_under('"big"', "Bearer x") == '"big"'
    known.keep("", b"x")
    assert known.tag_under("", "Bearer x") == ""
