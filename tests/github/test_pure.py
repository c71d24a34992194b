"""What the driver decides without the network."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.drivers.auth import AuthRequest
from reconciler.drivers.common import hook_marker
from reconciler.drivers.github.compile import full_pattern
from reconciler.drivers.github.driver import driver, expiry, missing
from reconciler.drivers.github.errors import classify
from reconciler.drivers.registry import DRIVERS, driver_for
from reconciler.model.errors import (
    AuthFailed,
    Conflict,
    Declined,
    Moved,
    NotImplementedYet,
    PermissionDenied,
    ProviderError,
    RateLimited,
    ValidationFailed,
)
from reconciler.model.objects import ObservedObject
from reconciler.model.resources import Lifecycle, SecretRef
from reconciler.model.values import ExternalId
from tests.github.conftest import INTEGRATION, source
from tests.support.authentication import auth_context

HOOKS = driver.types["github/repository-webhook"]
NOW = 1_700_000_000.0


def error(status, body=None, **headers):
    return classify(status, {key.replace("_", "-"): value for key, value in headers.items()}, body, "GET /x", now=NOW)


def test_the_catalog_knows_the_driver_and_nothing_it_has_not():
    assert driver_for("github") is driver
    assert DRIVERS["github"] is driver
    assert driver_for("nobody") is None
    with pytest.raises(KeyError):
        DRIVERS["nobody"]


@pytest.mark.parametrize(
    ("url", "api_url", "account"),
    [
        ("https://github.com/Acme", "https://api.github.com", "acme"),
        ("https://github.com/acme/web/", "https://api.github.com", "acme"),
        ("https://git.corp.example/acme", "https://git.corp.example/api/v3", "acme"),
        ("https://corp.ghe.com/acme", "https://api.corp.ghe.com", "acme"),
    ],
)
def test_a_connection_is_the_account_and_where_its_api_is(url, api_url, account):
    created = driver.connect(dataclasses.replace(INTEGRATION, spec={**INTEGRATION.spec, "url": url}), {})
    assert (created.api_url, created.account) == (api_url, account)


@pytest.mark.parametrize("url", ["https://github.com", "https://github.com/a/b/c", "", "https://github.com/.."])
def test_a_url_without_an_account_is_refused(url):
    with pytest.raises(ValidationFailed):
        driver.connect(dataclasses.replace(INTEGRATION, spec={**INTEGRATION.spec, "url": url}), {})


def test_an_auth_form_that_has_no_support_yet_says_so_and_connects_nothing():
    with pytest.raises(NotImplementedYet, match="none") as caught:
        driver.connect(dataclasses.replace(INTEGRATION, spec={**INTEGRATION.spec, "auth": {"use": "none"}}), {})
    assert caught.value.code == "RC6010"


async def test_a_user_name_makes_basic_authentication():
    from reconciler.model.secrets import SecretValue

    auth = {"use": "basic", "basic": {"username": "bot"}}
    resource = dataclasses.replace(INTEGRATION, spec={**INTEGRATION.spec, "auth": auth})
    connection = driver.connect(resource, {"/basic/password": SecretRef("default", "s", "k")})
    headers: dict[str, str] = {}
    authenticator = driver.authenticator(connection, auth_context(lambda _ref: SecretValue("pw")))
    await authenticator.authorize(AuthRequest("GET", "https://api.github.com/user", headers))
    assert headers["authorization"] == "Basic Ym90OnB3"


@pytest.mark.parametrize(
    "word", ["You have exceeded a secondary rate limit.", "You have triggered an abuse detection mechanism."]
)
def test_a_secondary_limit_is_known_by_its_words_and_waits_as_told(word):
    limited = error(403, {"message": word}, retry_after="60")
    assert isinstance(limited, RateLimited)
    assert limited.retry_at == NOW + 60
    assert error(429, {"message": word}).retry_at is None


def test_the_hourly_limit_waits_until_its_reset_but_never_longer_than_a_day():
    used_up = error(403, {"message": "API rate limit exceeded"}, x_ratelimit_remaining="0", x_ratelimit_reset=str(int(NOW) + 90))
    assert used_up.retry_at == NOW + 90
    absurd = error(403, {"message": "API rate limit exceeded"}, x_ratelimit_remaining="0", x_ratelimit_reset="99999999999")
    assert absurd.retry_at == NOW + 86_400


def test_a_403_names_what_is_missing_in_the_words_of_the_grammar():
    denied = error(
        403,
        {"message": "Resource not accessible by integration"},
        x_accepted_github_permissions="contents=write; contents=write,workflows=write",
    )
    assert isinstance(denied, PermissionDenied)
    assert denied.hint == "Grant the credential contents: write, or contents: write and workflows: write."
    assert "single sign-on" in error(403, {"message": "no"}, x_github_sso="required; url=https://github.com/orgs/x/sso").hint
    assert "archived" in error(403, {"message": "Repository was archived so is read-only."}).hint


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (
            {"message": "Validation Failed", "errors": [{"code": "custom", "message": "Hook already exists on this repository"}]},
            Conflict,
        ),
        ({"message": "Validation Failed", "errors": ["Hook already exists on this organization"]}, Conflict),
        (
            {"message": "Validation Failed", "errors": [{"field": "name", "code": "invalid", "value": "leak-canary"}]},
            ValidationFailed,
        ),
        ({"message": "The permissions requested are not granted"}, Declined),
    ],
)
def test_a_422_is_a_conflict_only_when_the_hook_exists(body, kind):
    created = error(422, body)
    assert type(created) is kind
    assert "leak-canary" not in str(created)


def test_the_statuses_that_mean_the_same_everywhere_are_left_to_the_shared_rules():
    assert [error(status, "<html>") for status in (404, 409, 500, 502, 503)] == [None] * 5
    assert isinstance(error(401, {"message": "Bad credentials"}), AuthFailed)
    assert error(301, {"url": "https://api.github.com/repositories/1"}).target == "https://api.github.com/repositories/1"
    assert isinstance(error(307, None, location="/x"), Moved)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["message", "errors", "url", "code", "field"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(
    status=st.integers(300, 599),
    body=json_values,
    headers=st.dictionaries(
        st.sampled_from(
            [
                "retry-after",
                "x-ratelimit-remaining",
                "x-ratelimit-reset",
                "location",
                "x-accepted-github-permissions",
                "x-github-sso",
            ]
        ),
        st.text(max_size=20),
    ),
)
def test_d15_no_answer_of_any_shape_escapes_as_another_exception(status, body, headers):
    created = classify(status, headers, body, "GET /x", now=NOW)
    assert created is None or isinstance(created, ProviderError)


@given(json_values)
def test_normalizing_takes_any_shape_and_twice_is_once(value):
    once = HOOKS.normalize({"config": value, "events": value, "active": value})
    assert HOOKS.normalize(once) == once


def test_equal_spellings_of_a_hook_are_one():
    spelled = {
        "active": True,
        "events": ["push", "create", "push"],
        "config": {"url": "https://x/h", "insecure_ssl": 0, "content_type": "json", "secret": "********"},
    }
    assert HOOKS.normalize(spelled) == {
        "active": True,
        "events": ["create", "push"],
        "config": {"url": "https://x/h", "content_type": "json", "insecure_ssl": "0"},
    }


@pytest.mark.parametrize(
    ("url", "result"),
    [
        ("https://h.example/hooks/team/0123456789abcdef0123?key=k1", True),
        ("http://other/prefix/hooks/team/0123456789abcdef0123", True),
        ("https://h.example/hooks/team/0123456789abcdef0123/more", False),
        ("https://h.example/hooks/team/0123456789ABCDEF0123", False),
        ("https://h.example/?u=/hooks/team/0123456789abcdef0123", False),
        ("http://[::bad/hooks/team/0123456789abcdef0123", False),
        ("", False),
    ],
)
def test_d23_the_marker_is_the_path_alone(url, result):
    assert (hook_marker(url) is not None) is result


def test_an_event_source_becomes_one_hook_a_repository_in_the_order_of_names(compiled):
    resource = source(
        resource={"type": "repository", "names": ["web", "Other/Thing", "acme/WEB", "api"]},
        events=[{"type": "push"}, {"type": "create"}],
        keyRotation=3,
    )
    hooks = compiled(resource)
    assert [hook.scope.key for hook in hooks] == ["acme/api", "acme/web", "other/thing"]
    assert {tuple(hook.attributes["events"]) for hook in hooks} == {("create", "push")}
    assert {hook.write_only[0].ref.rotation for hook in hooks} == {3}
    assert len({hook.address for hook in hooks}) == 3
    assert hooks[0].natural_key == hooks[0].attributes["config"]["url"]
    assert hook_marker(hooks[0].natural_key) == hooks[0].marker


@pytest.mark.parametrize("name", ["a/b/c", "../x", "a b", "x?y", "..", "a/..", "%2e%2e"])
def test_a_name_that_would_bend_a_path_is_refused(compiled, name):
    with pytest.raises(ValidationFailed):
        compiled(source(resource={"type": "repository", "name": name}))


@pytest.mark.parametrize("resource", [{"type": "project", "name": "x"}, {"type": "organization", "match": "a*"}, None])
def test_a_resource_that_github_has_not_is_refused(compiled, resource):
    with pytest.raises(ValidationFailed):
        compiled(source(resource=resource))


def test_a_rename_keeps_the_hook_by_its_old_address_and_marker(compiled):
    [new] = compiled(source("new", Lifecycle(moved_from="old")))
    [old] = compiled(source("old"))
    assert new.previous == old.address
    assert new.previous_marker == old.marker


def test_offline_a_pattern_is_shown_in_place_of_names(compiled):
    resource = source(resource={"type": "repository", "match": "svc-*"})
    [shown] = compiled(resource, driver.offline_facts(resource))
    assert shown.scope.key == "acme/svc-*"


def seen(url, events):
    attributes = {"active": True, "events": events, "config": {"url": url, "content_type": "form", "insecure_ssl": "0"}}
    return ObservedObject(ExternalId("1"), attributes, url)


def test_d23_a_foreign_hook_is_taken_over_only_with_our_host_and_strictly_with_our_events(compiled):
    [desired] = compiled(source(events=[{"type": "push"}]))
    same, other_events, other_host = (
        seen("https://hooks.example.org/old", ["push"]),
        seen("https://hooks.example.org/old", ["create"]),
        seen("https://elsewhere.example/old", ["push"]),
    )
    assert [HOOKS.adoptable(desired, one, identical=True) for one in (same, other_events, other_host)] == [True, False, False]
    assert [HOOKS.adoptable(desired, one, identical=False) for one in (same, other_events, other_host)] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2024-10-04 11:29:00 UTC", "2024-10-04T11:29:00Z"),
        ("2026-02-06 07:42:23 +0100", "2026-02-06T06:42:23Z"),
        ("", ""),
        ("soon", ""),
    ],
)
def test_both_spellings_of_the_end_of_a_token_are_read(text, at):
    assert expiry(text) == at


def test_missing_permissions_of_a_classic_token_are_named_with_the_scopes_that_would_do():
    assert missing(frozenset({"repo"}), {"webhooks": "write", "organization_hooks": "write"}) == (
        "organization_hooks: write (scope admin:org_hook)",
    )
    assert missing(frozenset({"read:repo_hook"}), {"webhooks": "read"}) == ()
    assert missing(frozenset(), {"webhooks": "write", "unheard_of": "write"}) == (
        "webhooks: write (scope repo or admin:repo_hook or write:repo_hook)",
    )


def test_what_an_event_source_needs_is_named_by_its_resource():
    assert driver.needs(source()) == {"webhooks": "write"}
    assert driver.needs(source(resource={"type": "organization", "name": "acme"})) == {"organization_hooks": "write"}
    assert driver.needs(INTEGRATION) == {}


def test_only_repositories_are_matched_by_a_pattern():
    assert driver.offline_facts(source(resource={"type": "repository", "match": "svc-*"})) == {"pattern": "svc-*"}
    assert driver.offline_facts(source(resource={"type": "organization", "match": "svc-*"})) == {}


def test_a_pattern_is_of_the_account_and_without_case():
    assert full_pattern("Svc-*", "Acme") == "acme/svc-*"
    assert full_pattern("Other/Svc-*", "acme") == "other/svc-*"
