"""Answers of any shape: never another error than a typed one (D15)."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.drivers.buddy.driver import driver
from reconciler.model.errors import ProviderError
from reconciler.model.objects import Scope
from tests.support.driving import Canned, damaged

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)

PERMISSIONS = {"admins": "MANAGE", "others": "DENIED", "users": [{"id": 1, "access_level": "MANAGE"}], "groups": []}
INTEGRATION = {
    "hash_id": "h", "identifier": "i", "name": "n", "type": "AMAZON", "auth_type": "DEFAULT",
    "scope": "WORKSPACE", "project_name": None, "permissions": PERMISSIONS, "all_pipelines_allowed": False,
    "allowed_pipelines": [{"id": 1, "name": "p"}],
}  # fmt: skip
HOOK = {
    "id": 1, "target_url": "https://x.test/hooks/a/" + "0" * 20, "events": ["PUSH"], "projects": [{"name": "web"}],
    "secret_key": "k", "requests": [{"post_date": "2026-01-01T00:00:00Z", "response_status": 200}],
}  # fmt: skip
LISTS = [("buddy/integration", {"url": "u", "integrations": [INTEGRATION]}), ("buddy/webhook", {"url": "u", "webhooks": [HOOK]})]


@settings(max_examples=1_000, deadline=None)
@given(st.sampled_from(LISTS), st.randoms(use_true_random=False), json_values)
async def test_d15_a_list_with_any_part_damaged_is_read_or_refused_with_a_typed_error(case: Any, random: Any, junk: Any) -> None:
    kind, body = case
    api = Canned(driver, damaged(body, random, junk))
    try:
        observed = await driver.types[kind].observe(api, Scope(kind, "acme"), None)
    except ProviderError:
        return
    json.dumps([row.attributes for row in observed.objects])  # type: ignore[union-attr]


@given(
    st.integers(400, 599),
    json_values,
    st.sampled_from(["GET /workspaces/a/integrations", "POST /workspaces/a/webhooks", "GET /x"]),
)
def test_d15_any_error_body_is_classified_without_another_error(status: int, body: Any, request: str) -> None:
    error = driver.classify(status, {"x-rate-limit-reset": "soon"}, body, request, now=0.0)
    assert error is None or isinstance(error, ProviderError)
