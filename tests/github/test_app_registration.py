"""The form that registers an App. Pure."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from reconciler.drivers.apps import EVERY, AppWish
from reconciler.drivers.github.app_registration import GitHubAppRegistrar
from reconciler.drivers.github.permissions import ALWAYS_SENT, events_for, permissions_for
from reconciler.drivers.github.spec import EVENTS
from reconciler.model.errors import ValidationFailed
from reconciler.sandbox.github.app_rules import manifest_problem

WISH = AppWish(
    "https://github.com", "acme", True, "ci", "https://ci.example", "https://ci.example/in", "http://127.0.0.1:1/callback",
    {"contents": "read"}, frozenset({"push"}),
)  # fmt: skip


def manifest(**changes: Any) -> dict[str, Any]:
    form = GitHubAppRegistrar().form(dataclasses.replace(WISH, **changes), "s1")
    return dict(json.loads(form.fields["manifest"]))


@pytest.mark.parametrize(
    ("organization", "url"),
    [
        (True, "https://github.com/organizations/acme/settings/apps/new?state=s1"),
        (False, "https://github.com/settings/apps/new?state=s1"),
    ],
)
def test_the_form_goes_to_the_page_of_the_account(organization: bool, url: str) -> None:
    assert GitHubAppRegistrar().form(dataclasses.replace(WISH, organization=organization), "s1").url == url


def test_every_event_means_those_that_the_permissions_give() -> None:
    asked = manifest(events=frozenset({EVERY}), permissions={"statuses": "read"})
    assert asked["default_events"] == sorted(events_for({"statuses": "read"}))
    assert manifest_problem(asked) == ""


def test_events_that_github_sends_anyway_are_not_asked_for() -> None:
    assert manifest(events=frozenset({"push", "installation", "ping"}))["default_events"] == ["push"]


def test_of_two_levels_of_a_permission_the_higher_is_requested() -> None:
    asked = manifest(permissions={"repository_hooks": "write", "webhooks": "read", "metadata": "read"}, events=frozenset())
    assert asked["default_permissions"]["repository_hooks"] == "write"


@pytest.mark.parametrize("event", sorted({*EVENTS} - {EVERY}))
def test_what_the_form_asks_for_is_what_github_takes(event: str) -> None:
    """For each event: with any of its permissions the simulator takes the manifest, without it neither does."""
    names = permissions_for(event)
    for name in names:
        assert manifest_problem(manifest(events=frozenset({event}), permissions={name: "read"})) == ""
    if "metadata" not in names and event not in ALWAYS_SENT:
        with pytest.raises(ValidationFailed) as caught:
            manifest(events=frozenset({event}), permissions={})
        assert caught.value.code == ("RC4201" if names else "RC4202")
