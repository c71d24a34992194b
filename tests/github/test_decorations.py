"""N22: decoration never costs the status. And what the simulator refuses, as GitHub does."""

import dataclasses

import pytest

from reconciler.drivers.github.driver import driver
from reconciler.drivers.github.reports import fitting, link_of, name_of, plain
from reconciler.model.errors import NotFound, ValidationFailed
from tests.github.simulator import Hands
from tests.github.test_reporting import MARKER, WEB, hands, on, on_commit, on_deployment, posts, request, sha, statuses

__all__ = ["hands", "sha"]
reporter = driver.reporter
NASTY = ["🚀 ship it", "a\nb\r\nc", "x\x00\x1b[31my\u202e", "ü" * 300, "👩‍👩‍👧 family " * 40, "\U0010ffff" * 500]


@pytest.mark.parametrize("text", NASTY)
async def test_n22_a_status_is_written_whatever_stands_in_its_description(api, hands, sha, text):
    number = await reporter.deployment(api, request(description=text))
    written = f"{text} ({MARKER})"
    assert await reporter.report(api, on_deployment(number, description=written))
    assert await reporter.report(api, on_commit(sha, description=written))
    for [shown] in (statuses(hands, number), on(hands, sha)):
        assert len(shown["description"]) <= 140
        assert shown["description"].endswith(f"({MARKER})")
        assert shown["description"].isprintable()
    assert await reporter.report(api, on_commit(sha, description=written)) is False


@pytest.mark.parametrize("text", ["e" * 300, "🚀 prod", "a\nb", "review/" + "é" * 260])
async def test_n22_an_environment_and_a_context_that_github_refuses_are_written_in_a_form_that_it_takes(api, hands, sha, text):
    number = await reporter.deployment(api, request(environment=text))
    assert await reporter.deployment(api, request(environment=text)) == number
    assert await reporter.deployment(api, request(environment=f"{text}!")) != number
    assert len({row["environment"] for row in hands.get(f"{WEB}/deployments")}) == 2
    assert await reporter.report(api, on_commit(sha, context=text))
    assert await reporter.report(api, on_commit(sha, context=text)) is False
    assert len(on(hands, sha)[0]["context"]) <= 255


@pytest.mark.parametrize("link", ["ftp://x/y", "javascript:alert(1)", "https://x/" + "a" * 4000, "https://x/\ny", "no link"])
async def test_n22_a_link_that_github_refuses_is_left_out(api, hands, sha, link):
    number = await reporter.deployment(api, request())
    assert await reporter.report(api, on_deployment(number, log_url=link, environment_url=link))
    assert await reporter.report(api, on_commit(sha, log_url=link))
    assert (statuses(hands, number)[0]["log_url"], on(hands, sha)[0]["target_url"]) == ("", None)


@pytest.mark.parametrize("field", ["description", "target_url", "url"])
async def test_n22_where_github_refuses_a_decoration_all_the_same_the_status_goes_without(api, hands, sha, field):
    refusal = {
        "message": "Validation Failed",
        "errors": [{"resource": "Status", "code": "custom", "field": field, "message": field}],
    }
    for path in ("/statuses/", "/deployments$", "/statuses$"):
        hands.github.admin.fault(method="POST", path=path, status=422, body=refusal, times=1)
    number = await reporter.deployment(api, request())
    assert await reporter.report(api, on_commit(sha))
    assert await reporter.report(api, on_deployment(number))
    assert [row["description"] for row in (*on(hands, sha), *statuses(hands, number))] == [f"({MARKER})"] * 2
    assert await reporter.report(api, on_commit(sha)) is False


async def test_n22_a_refusal_that_no_text_has_to_do_with_is_not_asked_twice(api, hands):
    with pytest.raises(ValidationFailed, match="No commit found for SHA"):
        await reporter.report(api, on_commit("b" * 40))
    with pytest.raises(ValidationFailed, match="No ref found"):
        await reporter.deployment(api, request(ref="gone"))
    assert len(posts(hands)) == 2


async def test_n26_no_deployment_of_zeros_is_asked_for(api, hands):
    with pytest.raises(ValidationFailed, match="is not a commit"):
        await reporter.deployment(api, request(ref="0" * 40))
    assert posts(hands) == []


async def test_n6_a_branch_and_a_tag_lead_to_a_commit_and_what_is_gone_to_none(api, github):
    with Hands(github) as hands:  # without the check of paths: the simulator notes them decoded, with the slash of a ref
        sha = hands.get(f"{WEB}/commits/main")["sha"]
        pushed = hands.github.admin.do("push", repo="acme/web", ref="refs/tags/v/1", annotated=True)
        assert pushed["after"] != pushed["sha"]
        assert await reporter.commit(api, "acme/web", "refs/heads/main") == sha
        assert await reporter.commit(api, "acme/web", "refs/tags/v/1") == pushed["sha"]
        with pytest.raises(NotFound, match="refs/tags/v9 does not exist"):
            await reporter.commit(api, "acme/web", "refs/tags/v9")
        status, _ = hands("POST", f"{WEB}/statuses/{pushed['after']}", {"state": "success"})[:2]
        assert status == 422  # of a tag object there is no status


def test_n22_the_simulator_takes_no_more_than_github(hands, sha):
    def refused(path, **body):
        status, answer = hands("POST", f"{WEB}{path}", body)[:2]
        return status, answer["errors"][0]["field"]

    state = {"state": "success"}
    assert refused(f"/statuses/{sha}", **state, description="🚀") == (422, "description")
    assert refused(f"/statuses/{sha}", **state, description="x" * 141) == (422, "description")
    assert refused(f"/statuses/{sha}", **state, context="x" * 256) == (422, "context")
    assert refused(f"/statuses/{sha}", **state, target_url="ftp://x") == (422, "target_url")
    deploy = {"ref": "main", "auto_merge": False}
    assert refused("/deployments", **deploy, description="x" * 141) == (422, "description")
    assert refused("/deployments", **deploy, environment="x" * 256) == (422, "environment")
    assert refused("/deployments", **deploy, environment="🚀") == (422, "environment")


def test_n22_what_github_takes_stays_as_it_is():
    assert plain("grün: 3 → 4") == "grün: 3 → 4"
    assert name_of("review/a b") == "review/a b"
    assert name_of("x" * 256) != name_of("x" * 257)
    assert link_of("https://ci.example.org/1?a=b#c") == "https://ci.example.org/1?a=b#c"
    assert fitting("", MARKER) == f"({MARKER})"
    assert dataclasses.replace(request(), environment="e").environment == "e"
