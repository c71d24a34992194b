"""Every type with every form of authentication, in one daemon: connected, checked, shown, rotated; no value anywhere."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.sandbox.azure.app import CLIENT
from reconciler.sandbox.google.app import ACCOUNT
from reconciler.sandbox.spinnaker.app import USER
from tests.support.forms import FORMS, Form, Values
from tests.support.forms_world import FormsWorld, forms_world, named
from tests.support.sts import KEY_ID

BY_NAME = {form.name: form for form in FORMS}
INTERVAL_S = 2.0


def test_every_form_is_connected_and_answered_in_one_daemon(tmp_path: Path) -> None:
    with forms_world(tmp_path, FORMS) as world:
        world.daemon()
        world.wait(world.valid, "every credential is valid", 60)
        rows = world.rows()
        assert set(rows) == {named(form) for form in FORMS}
        for name, row in rows.items():
            assert row["valid"] is True, row
            assert row["identity"], name
            missing = row["missing"] or ("missing" in row["unknown"]) or "granted" not in row["unknown"]
            for question, answer in {"granted": row["granted"], "missing": missing, "expiresAt": row["expiresAt"]}.items():
                assert answer or row["unknown"].get(question), (name, question)
        shown = world.cli("credentials")
        assert shown.returncode == 0, shown.stderr
        names = tuple(f"Integration/{name} " for name in rows)
        table = [line for line in shown.stdout.splitlines() if line.startswith(names) and "  yes" in line]
        assert len(table) == len(FORMS)
        answer = json.loads(world.cli("credentials", "-o", "json").stdout)
        assert len(answer["credentials"]) == len(FORMS)
        metrics = httpx.get(f"http://127.0.0.1:{world.port}/metrics").text
        for name in rows:
            assert f'reconciler_credential_valid{{integration="{name}"}} 1.0' in metrics
            assert f'reconciler_credential_unknown{{integration="{name}",question="valid"}} 0.0' in metrics
        assert 'reconciler_credential_expiry_timestamp_seconds{integration="azure-client-secret"}' in metrics
        assert 'reconciler_credential_expiry_timestamp_seconds{integration="spinnaker-none"}' not in metrics
        said = world.log() + shown.stdout + json.dumps(answer) + metrics + world.cli("status", "-o", "json").stdout
        stored = b"".join(path.read_bytes() for path in (world.folder / "state").rglob("*") if path.is_file())
        for name, values in world.values.items():
            for canary in (_canary(value) for key, value in values.items() if key in {"token", "secret", "key"}):
                assert canary not in said, name
                assert canary.encode() not in stored, name


def _canary(value: str) -> str:
    """Return a part of a secret that nothing else has: of a private key, one line of it."""
    if value.startswith("{"):
        value = json.loads(value)["private_key"]
    return value.split("\n")[1] if "PRIVATE KEY" in value else value


def _tokens(server: Any) -> Values:
    (old, row) = next(iter(server.admin.state()["tokens"].items()))
    server.admin.put_state({"tokens": {"canary-second-" + old[:20]: row}})
    return {"token": "canary-second-" + old[:20]}


def _drop_tokens(server: Any, values: Values) -> None:
    server.admin.put_state({"tokens": dict.fromkeys(set(server.admin.state()["tokens"]) - {values["token"]})})


def _new_app_key(server: Any) -> Values:
    return {"token": server.admin.do("new_app_key", app=int(next(iter(server.admin.state()["apps"]))))["pem"]}


def _new_access_key(server: Any) -> Values:
    server.admin.put_state({"keys": {"AKIA" + "Z" * 16: "user/ci"}})
    return {"id": "AKIA" + "Z" * 16, "secret": "another-secret"}


def _new_password(server: Any) -> Values:
    server.admin.put_state({"users": {USER: {"password": "canary-second-password"}}})
    return {"token": "canary-second-password"}


def _new_client_secret(server: Any) -> Values:
    end = (dt.datetime.now(dt.UTC) + dt.timedelta(days=90)).strftime("%Y-%m-%dT%H:%M:%SZ")
    secrets = server.admin.state()["applications"][CLIENT]["secrets"]
    second = {"keyId": "k2", "displayName": "ci", "value": "zzz8Q~second-secret", "endDateTime": end}
    server.admin.put_state({"applications": {CLIENT: {"secrets": [*secrets, second]}}})
    return {"secret": "zzz8Q~second-secret"}


def _drop_client_secret(server: Any, _values: Values) -> None:
    secrets = server.admin.state()["applications"][CLIENT]["secrets"]
    server.admin.put_state({"applications": {CLIENT: {"secrets": secrets[1:]}}})


def _drop_google_keys(server: Any, values: Values) -> None:
    kept = json.loads(values["key"])["private_key_id"]
    keys = server.admin.state()["accounts"][ACCOUNT]["keys"]
    server.admin.put_state({"accounts": {ACCOUNT: {"keys": dict.fromkeys(set(keys) - {kept})}}})


Add, Drop = Callable[[Any], Values], Callable[[Any, Values], None]
ROTATIONS: Mapping[str, tuple[Add, Drop]] = {
    "gitlab/token-personal": (_tokens, _drop_tokens),
    "github/token": (_tokens, _drop_tokens),
    "dockerhub/basic": (_tokens, _drop_tokens),
    "spinnaker/basic": (_new_password, lambda _server, _values: None),
    "aws/access-key": (_new_access_key, lambda server, _: server.admin.put_state({"keys": {KEY_ID: None}})),
    "aws/access-key-roles": (_new_access_key, lambda server, _: server.admin.put_state({"keys": {KEY_ID: None}})),
    "github/github-app": (_new_app_key, lambda _server, _values: None),
    "azure/client-secret": (_new_client_secret, _drop_client_secret),
    "google/service-account-key": (lambda server: {"key": json.dumps(server.admin.do("create_key"))}, _drop_google_keys),
}


def test_a_rotated_secret_of_every_form_is_used_within_one_interval_without_a_restart(tmp_path: Path) -> None:
    forms = [BY_NAME[name] for name in ROTATIONS]
    with forms_world(tmp_path, forms) as world:
        world.daemon()
        world.wait(world.valid, "every credential is valid", 60)
        fresh = {form.name: ROTATIONS[form.name][0](world.servers[named(form)]) for form in forms if form.name not in AT_ONCE}
        for form in forms:
            if form.name in AT_ONCE:  # the peer has one secret at a time: both change together
                fresh[form.name] = ROTATIONS[form.name][0](world.servers[named(form)])
            world.servers[named(form)].admin.clear_requests()
            world.put(form, fresh[form.name])
        time.sleep(INTERVAL_S + 3)
        for form in forms:  # what is used from here on is the new one: the old one opens nothing any more
            server = world.servers[named(form)]
            exchanges = [row for row in server.admin.requests() if row["method"] == "POST"]
            assert bool(exchanges) == form.exchanged, form.name  # what was got with the old one is not used further
            ROTATIONS[form.name][1](server, fresh[form.name])
            server.admin.clear_requests()
        asked = [
            form for form in forms if form.provider != "google"
        ]  # all that the check needs is kept there: it was exchanged above
        world.wait(lambda: all(_answered(world, form) for form in asked), "every peer is asked again", 40)
        world.wait(world.valid, "still valid", 30)
        late = [
            row for row in world.events("credential_refused") if row["integration"] not in {named(BY_NAME[n]) for n in AT_ONCE}
        ]
        assert late == []
        log = world.log()
        for values in fresh.values():
            assert not any(_canary(value) in log for key, value in values.items() if key in {"token", "secret", "key"})


AT_ONCE = ("spinnaker/basic", "github/github-app")


def _answered(world: FormsWorld, form: Form) -> bool:
    return any(200 <= row["status"] < 400 for row in world.servers[named(form)].admin.requests())


@pytest.mark.parametrize(
    "name", ["github/basic", "gitlab/token-group", "aws/access-key", "spinnaker/token", "azure/client-secret"]
)
def test_a_refused_secret_is_repaired_by_the_secret_alone(tmp_path: Path, name: str) -> None:
    form = BY_NAME[name]
    with forms_world(tmp_path, [form]) as world:
        right = dict(world.values[name])
        world.put(form, {key: "AKIA" + "W" * 16 if key == "id" else f"wrong-{key}-canary" for key in right})
        world.daemon()
        world.wait(lambda: world.credential(form).get("reason") == "Refused", "refused", 30)
        asked = len(world.servers[named(form)].admin.requests())
        time.sleep(2 * INTERVAL_S)
        assert len(world.servers[named(form)].admin.requests()) == asked  # nothing within the minute
        began = time.time()
        world.put(form, right)
        world.wait(world.valid, "accepted", INTERVAL_S + 6)
        assert time.time() - began < INTERVAL_S + 6
        assert [len(world.events(event)) for event in ("credential_refused", "credential_accepted")] == [1, 1]
