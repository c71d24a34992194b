"""Servers in GitHub's place that leave fields of a hook out."""

import dataclasses

import pytest

from reconciler.drivers.github.driver import driver
from reconciler.model.values import ExternalId
from reconciler.planning.diff import Basis, changes_since
from tests.github.conftest import SCOPE

HOOKS = driver.types["github/repository-webhook"]


@pytest.mark.parametrize("field", ["active", "events", "url", "content_type", "insecure_ssl", "updated_at", "last_response"])
async def test_n52_a_field_that_no_answer_has_makes_no_difference(api, github, write, field):
    created = write()
    await HOOKS.create(api, created)
    github.admin.settings(leave_out=[field])
    (hook,) = (await HOOKS.observe(api, SCOPE, None)).objects
    desired = dataclasses.replace(created.desired, write_only=())
    assert changes_since(desired, hook, Basis(desired.attributes), now=0.0) == ()
    assert changes_since(desired, hook, Basis(), now=0.0) == ()


async def test_n52_an_update_of_a_hook_that_is_partly_shown_sends_all_of_it(api, github, write):
    created = await HOOKS.create(api, write())
    github.admin.settings(leave_out=["insecure_ssl", "content_type"])
    (hook,) = (await HOOKS.observe(api, SCOPE, None)).objects
    changed = dataclasses.replace(write(active=False), observed=hook)
    await HOOKS.update(api, ExternalId(created.external_id), changed)
    body = [row["body"] for row in github.admin.requests() if row["method"] == "PATCH"][-1]
    assert (body["config"]["insecure_ssl"], body["config"]["content_type"]) == ("0", "json")
