"""Answers of any shape: never another error than a typed one (D15)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.drivers.semaphore.driver import driver
from reconciler.model.errors import ProviderError, ProviderProtocolError
from reconciler.model.objects import Scope
from tests.support.driving import Canned, damaged

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)

RULE = {
    "name": "r",
    "filter": {"projects": ["web"], "branches": [], "tags": None, "states": []},
    "notify": {
        "slack": {"endpoint": "", "channels": ["#a"]},
        "email": {"cc": ["a@b.test"]},
        "webhook": {"endpoint": "https://x.test", "timeout": 0},
    },
}
METADATA = {
    "name": "reconciler-a-" + "0" * 20,
    "id": "7b3ea0f4-0000-4000-8000-000000000000",
    "update_time": "1",
    "creator_id": "u",
}
NOTIFICATIONS = {
    "notifications": [{"metadata": METADATA, "spec": {"rules": [RULE]}, "status": {"failures": []}}],
    "next_page_token": "",
}
SECRETS = {
    "secrets": [{"metadata": METADATA, "data": {"env_vars": [{"name": "WEBHOOK_SECRET", "value": ""}]}}],
    "next_page_token": "",
}


@settings(max_examples=1_000, deadline=None)
@given(
    st.sampled_from([("semaphore/notification", NOTIFICATIONS), ("semaphore/secret", SECRETS)]),
    st.randoms(use_true_random=False),
    json_values,
)
async def test_d15_a_list_with_any_part_damaged_is_read_or_refused_with_a_typed_error(case: Any, random: Any, junk: Any) -> None:
    kind, body = case
    api = Canned(driver, damaged(body, random, junk))
    try:
        observed = await driver.types[kind].observe(api, Scope(kind, "acme"), None)
    except ProviderError:
        return
    json.dumps([row.attributes for row in observed.objects])  # type: ignore[union-attr]


@given(st.integers(400, 599), json_values, st.sampled_from(["GET /api/v1alpha/projects", "POST /api/v1beta/secrets", "GET /x"]))
def test_d15_any_error_body_is_classified_without_another_error(status: int, body: Any, request: str) -> None:
    error = driver.classify(status, {}, body, request, now=0.0)
    assert error is None or isinstance(error, ProviderError)


@pytest.mark.parametrize("rules", [{}, "x", 7])
async def test_d15_rules_that_are_no_list_are_an_error_and_not_an_emptied_notification(rules: Any) -> None:
    body = {"notifications": [{"metadata": METADATA, "spec": {"rules": rules}}], "next_page_token": ""}
    with pytest.raises(ProviderProtocolError):
        await driver.types["semaphore/notification"].observe(Canned(driver, body), Scope("semaphore/notification", "acme"), None)
