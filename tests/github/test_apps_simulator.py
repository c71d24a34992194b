"""The simulated App is as strict as GitHub's: web tokens, installation tokens, their limits and their events."""

import json
import re
import time
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from joserfc.jwk import RSAKey

from tests.github.apps import create, mint, send

HOOK = "http://127.0.0.1:9/hook"
NEW = "/organizations/acme/settings/apps/new?state=s1"
MANIFEST = {
    "name": "deployer",
    "url": "https://ci.example.org",
    "redirect_url": "http://127.0.0.1:9/callback",
    "hook_attributes": {"url": HOOK},
    "default_permissions": {"deployments": "write"},
    "default_events": ["deployment"],
}


def deliveries(server, app):
    listed = send(server, "GET", "/app/hook/deliveries", app.token()).body
    return [send(server, "GET", f"/app/hook/deliveries/{row['id']}", app.token()).body for row in reversed(listed)]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
@pytest.mark.parametrize("issuer", ["client_id", "id"])
def test_an_app_acts_by_its_client_id_or_its_id(github, scheme, issuer):
    app = create(github)
    seen = send(github, "GET", "/app", app.token(iss=str(getattr(app, issuer))), scheme=scheme)
    assert (seen.status, seen.body["slug"], seen.body["installations_count"]) == (200, app.slug, 1)
    assert seen.body["permissions"] == {
        "deployments": "write",
        "repository_hooks": "write",
        "contents": "read",
        "metadata": "read",
    }


@pytest.mark.parametrize(
    ("claims", "status", "message"),
    [
        ({"iss": "Iv23nobody"}, 404, "Integration not found"),
        ({"iss": None}, 401, "'iss'"),
        ({"iat": 4_000_000_000}, 401, "'iat'"),
        ({"iat": None}, 401, "'iat'"),
        ({"now": 1_000}, 401, "future time"),
        ({"life_s": 700}, 401, "too far in the future"),
    ],
)
def test_a_web_token_that_is_not_good_is_refused_with_its_reason(github, claims, status, message):
    app = create(github)
    answer = send(github, "GET", "/app", app.token(**claims))
    assert answer.status == status
    assert message in answer.body["message"]


def test_a_web_token_of_another_key_or_no_web_token_at_all_cannot_be_decoded(github):
    app = create(github)
    other = RSAKey.generate_key(2048).as_pem(private=True).decode()
    for token in (app.token(pem=other), "ghp_sandbox", "a.b.c", mint(github, app).body["token"]):
        answer = send(github, "GET", "/app", token)
        assert (answer.status, answer.body["message"]) == (401, "A JSON web token could not be decoded")


def test_a_web_token_opens_nothing_but_the_app(github):
    app = create(github)
    assert send(github, "GET", "/repos/acme/payments", app.token()).status == 401


@pytest.mark.parametrize(
    "path", ["/orgs/acme/installation", "/users/ACME/installation", "/repos/acme/web/installation", "/app/installations/{id}"]
)
def test_an_installation_is_looked_up_by_account_repository_and_id(github, path):
    app = create(github)
    found = send(github, "GET", path.format(id=app.installation), app.token()).body
    assert (found["id"], found["app_id"], found["target_type"]) == (app.installation, app.id, "Organization")
    assert found["html_url"] == f"https://github.com/organizations/acme/settings/installations/{app.installation}"


def test_an_installation_of_another_app_is_not_found(github):
    app, other = create(github), create(github, title="other")
    assert send(github, "GET", f"/app/installations/{other.installation}", app.token()).status == 404
    assert [row["id"] for row in send(github, "GET", "/app/installations", app.token()).body] == [app.installation]


def test_a_token_has_520_characters_ends_after_an_hour_and_acts_as_the_app(github):
    app = create(github)
    minted = mint(github, app).body
    assert re.fullmatch(r"ghs_[A-Za-z0-9._]{36,}", minted["token"])
    assert 500 <= len(minted["token"]) <= 540
    assert minted["token"].count(".") == 2
    assert len(mint(github, app, x_github_stateless_s2s_token="disabled").body["token"]) == 40
    for scheme in ("Bearer", "bearer", "token"):
        assert send(github, "GET", "/repos/acme/payments", minted["token"], scheme=scheme).status == 200
    github.admin.settings(clock_skew_s=3601)
    assert send(github, "GET", "/repos/acme/payments", minted["token"]).status == 401


def test_a_token_reaches_its_repositories_only_and_does_what_it_is_granted_only(github):
    app = create(github, repositories=["acme/payments"])
    token = mint(github, app, {"permissions": {"deployments": "read"}}).body["token"]
    number = github.admin.state()["repos"]["acme/payments"]["id"]
    assert send(github, "GET", f"/repositories/{number}/deployments", token).status == 200
    assert send(github, "GET", "/repos/acme/web", token).status == 404
    refused = send(github, "POST", f"/repositories/{number}/deployments", token, {"ref": "main"})
    assert (refused.status, refused.body["message"]) == (403, "Resource not accessible by integration")
    assert refused.headers["x-accepted-github-permissions"] == "deployments=write"
    hooks = send(github, "GET", "/repos/acme/payments/hooks", token)
    assert (hooks.status, hooks.headers["x-accepted-github-permissions"]) == (403, "repository_hooks=read")


def test_a_public_repository_outside_the_installation_can_be_seen_and_not_changed(github):
    github.admin.put_state({"repos": {"acme/web": {"private": False}}})
    token = mint(github, create(github, repositories=["acme/payments"])).body["token"]
    assert send(github, "GET", "/repos/acme/web", token).status == 200
    assert send(github, "POST", "/repos/acme/web/deployments", token, {"ref": "main"}).status == 403
    listed = send(github, "GET", "/installation/repositories", token).body
    assert (listed["repository_selection"], [row["name"] for row in listed["repositories"]]) == ("selected", ["payments"])


def test_another_organization_is_out_of_reach(github):
    github.admin.put_state({"orgs": {"globex": {}}})
    token = mint(github, create(github, permissions={"organization_hooks": "write"})).body["token"]
    assert send(github, "GET", "/orgs/acme/hooks", token).status == 200
    assert send(github, "GET", "/orgs/globex/hooks", token).status == 403


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"permissions": {"deployments": "admin"}}, "not granted"),
        ({"permissions": {"issues": "read"}}, "not granted"),
        ({"permissions": {"webhooks": "read"}}, "is not a permission"),
        ({"permissions": {"contents": "all"}}, "is not a level"),
        ({"repositories": ["web"]}, "does not exist or is not accessible"),
        ({"repositories": ["nothing"]}, "does not exist or is not accessible"),
        ({"repository_ids": [5]}, "does not exist or is not accessible"),
        ({"repository_ids": list(range(501))}, "No more than 500"),
        ({"repositories": "web"}, "No subschema"),
    ],
)
def test_a_token_that_is_wider_than_the_installation_is_refused(github, body, message):
    answer = mint(github, create(github, repositories=["acme/payments"]), body)
    assert answer.status == 422
    assert message in answer.body["message"]


def test_a_narrowed_token_names_its_repositories(github):
    minted = mint(github, create(github), {"repositories": ["web"], "permissions": {"contents": "read"}}).body
    assert (minted["repository_selection"], [row["full_name"] for row in minted["repositories"]]) == ("selected", ["acme/web"])
    assert minted["permissions"] == {"metadata": "read", "contents": "read"}
    assert send(github, "GET", "/repos/acme/payments", minted["token"]).status == 404


def test_a_revoked_token_and_one_of_a_removed_installation_are_refused(github):
    app = create(github)
    first, second = mint(github, app).body["token"], mint(github, app).body["token"]
    assert send(github, "DELETE", "/installation/token", first).status == 204
    assert send(github, "GET", "/repos/acme/web", first).status == 401
    github.admin.do("delete_installation", installation=app.installation)
    assert send(github, "GET", "/repos/acme/web", second).status == 401
    assert mint(github, app).status == 404


def test_a_suspended_installation_neither_mints_nor_answers(github):
    app = create(github)
    token = mint(github, app).body["token"]
    assert send(github, "PUT", f"/app/installations/{app.installation}/suspended", app.token()).status == 204
    for answer in (mint(github, app), send(github, "GET", "/repos/acme/web", token)):
        assert (answer.status, answer.body["message"]) == (403, "This installation has been suspended")
    assert send(github, "DELETE", f"/app/installations/{app.installation}/suspended", app.token()).status == 204
    assert send(github, "GET", "/repos/acme/web", token).status == 200


def test_new_permissions_wait_for_approval(github):
    app = create(github)
    github.admin.do("change_app", app=app.id, permissions={"deployments": "write", "checks": "write"})
    assert send(github, "GET", "/app", app.token()).body["permissions"]["checks"] == "write"
    assert mint(github, app, {"permissions": {"checks": "write"}}).status == 422
    github.admin.do("accept_permissions", installation=app.installation)
    assert mint(github, app, {"permissions": {"checks": "write"}}).status == 201


def test_all_tokens_of_an_installation_share_one_rate_limit(github):
    github.admin.settings(rate_limits=True)
    app = create(github)
    used = [
        int(send(github, "GET", "/repos/acme/web", mint(github, app).body["token"]).headers["x-ratelimit-used"]) for _ in range(3)
    ]
    assert used == [1, 2, 3]


def test_the_hook_of_an_app_is_configured_with_its_secret_masked(github):
    app = create(github)
    assert send(github, "GET", "/app/hook/config", app.token()).body == {"content_type": "form", "insecure_ssl": "0"}
    changed = send(github, "PATCH", "/app/hook/config", app.token(), {"url": HOOK, "secret": "own"}).body
    assert changed == {"content_type": "form", "insecure_ssl": "0", "url": HOOK, "secret": "********"}
    assert send(github, "PATCH", "/app/hook/config", app.token(), {"content_type": "json"}).body["secret"] == "********"


def test_events_of_installed_repositories_go_to_the_app_signed_and_with_the_installation(github):
    app = create(github, url=HOOK, content_type="json", events=["deployment", "push"], repositories=["acme/payments"])
    for name in ("acme/payments", "acme/web"):
        github.admin.do("emit", repository=name, event="push", payload={"ref": "refs/heads/main"})
    github.admin.do("emit", repository="acme/payments", event="create", payload={})
    ping, created, push = deliveries(github, app)
    assert [row["event"] for row in (ping, created, push)] == ["ping", "installation", "push"]
    assert (ping["request"]["payload"]["hook"]["type"], created["action"]) == ("App", "created")
    headers = push["request"]["headers"]
    assert headers["X-GitHub-Hook-Installation-Target-Type"] == "integration"
    assert headers["X-GitHub-Hook-Installation-Target-ID"] == str(app.id)
    assert headers["X-Hub-Signature-256"].startswith("sha256=")
    assert push["request"]["payload"]["installation"]["id"] == push["installation_id"] == app.installation
    assert push["request"]["payload"]["repository"]["full_name"] == "acme/payments"


def test_a_hook_of_the_repository_and_the_app_get_the_same_event(github):
    hook = {"config": {"url": HOOK}, "events": ["push"]}
    github.admin.put_state({"hooks": {f"repos/{github.admin.state()['repos']['acme/web']['id']}": [hook]}})
    app = create(github, url=HOOK, events=["push"])
    assert len(github.admin.do("emit", repository="acme/web", event="push", payload={})["deliveries"]) == 2
    whole = [row for rows in github.admin.state()["deliveries"].values() for row in rows if row["event"] == "push"]
    assert len({row["guid"] for row in whole}) == 1
    again = deliveries(github, app)[-1]
    assert send(github, "POST", f"/app/hook/deliveries/{again['id']}/attempts", app.token()).status == 202
    repeated = deliveries(github, app)[-1]
    assert (repeated["guid"], repeated["redelivery"]) == (again["guid"], True)


def test_what_happens_to_an_installation_is_an_event_whatever_the_app_subscribes_to(github):
    app = create(github, url=HOOK)
    number = app.installation
    for name in ("suspend_installation", "unsuspend_installation", "accept_permissions"):
        github.admin.do(name, installation=number)
    github.admin.do("remove_repositories", installation=number, repositories=["acme/web"])
    github.admin.do("add_repositories", installation=number, repositories=["acme/web"])
    github.admin.do("delete_installation", installation=number)
    seen = [(row["event"], row["action"]) for row in deliveries(github, app)[1:]]
    assert seen == [
        ("installation", "created"),
        ("installation", "suspend"),
        ("installation", "unsuspend"),
        ("installation", "new_permissions_accepted"),
        ("installation_repositories", "removed"),
        ("installation_repositories", "added"),
        ("installation", "deleted"),
    ]
    removed = deliveries(github, app)[5]["request"]["payload"]
    assert [row["full_name"] for row in removed["repositories_removed"]] == ["acme/web"]


def confirmed(github, manifest=MANIFEST, path=NEW):
    body = urlencode({"manifest": json.dumps(manifest)}).encode()
    return send(github, "POST", path, "", body, content_type="application/x-www-form-urlencoded")


def test_a_manifest_becomes_an_app_by_a_code_that_works_once(github):
    answer = confirmed(github)
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    assert (answer.status, query["state"]) == (302, ["s1"])
    path = f"/app-manifests/{query['code'][0]}/conversions"
    made = send(github, "POST", path)
    assert made.status == 201
    assert {"id", "client_id", "client_secret", "pem", "webhook_secret", "slug", "html_url"} <= set(made.body)
    assert (made.body["owner"]["login"], made.body["events"]) == ("acme", ["deployment"])
    assert send(github, "POST", path).status == 404


def test_a_code_ends_after_an_hour(github):
    code = parse_qs(urlsplit(confirmed(github).headers["location"]).query)["code"][0]
    github.admin.settings(clock_skew_s=3601)
    assert send(github, "POST", f"/app-manifests/{code}/conversions").status == 404


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"default_events": ["check_run"]}, "Default events are not supported by permissions: check_run"),
        ({"default_permissions": {"webhooks": "write"}, "default_events": []}, "is not included"),
        ({"redirect_url": ""}, "redirect_url is missing"),
        ({"redirect_url": "callback"}, "redirect_url must be a valid URL"),
        ({"name": "x" * 35}, "Name is too long"),
        ({"hook_attributes": {"url": "https://hooks.example", "secret": "x"}}, "hook_attributes has unknown fields: secret"),
        ({"hook_attributes": {"active": True}}, "hook_attributes.url is missing"),
    ],
)
def test_a_manifest_that_github_does_not_take_is_refused_as_a_whole(github, change, message):
    answer = confirmed(github, {**MANIFEST, **change})
    assert answer.status == 422
    assert message in answer.content.decode()


def test_a_name_is_taken_once(github):
    create(github, title="deployer")
    assert confirmed(github).status == 422


def test_paths_work_in_the_form_of_an_enterprise_server(github):
    app = create(github)
    assert send(github, "GET", "/api/v3/app", app.token(now=time.time())).status == 200
    answer = send(github, "POST", f"/api/v3/app/installations/{app.installation}/access_tokens", app.token())
    assert send(github, "GET", "/api/v3/repos/acme/web", answer.body["token"]).status == 200
