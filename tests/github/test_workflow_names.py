"""Which workflow is meant where GitHub's list has others of the same name: deleted and disabled ones stay in it."""

import pytest

from reconciler.drivers.github.driver import driver
from reconciler.model.errors import ValidationFailed
from tests.github.running import DEPLOY, PLAIN, intent, posts
from tests.github.simulator import put_workflows
from tests.github.test_workflows import _impatient, hands  # noqa: F401 - fixtures

executor = driver.executors["github"]
GONE = {**DEPLOY, "id": 3, "state": "deleted"}
STATES = ["deleted", "disabled_manually", "disabled_inactivity", "disabled_fork"]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("workflow", ["Deploy", "deploy", "deploy.yml", ".github/workflows/deploy.yml", {"name": "Deploy"}])
async def test_n23_the_active_one_of_equal_names_is_run(api, hands, state, workflow):  # noqa: F811
    put_workflows(hands.github, {**GONE, "state": state}, DEPLOY, {**GONE, "id": 2, "state": state})
    what = intent(workflow=workflow, ref="main")
    run = await executor.start(api, what)
    result = await executor.find(api, what)
    assert run is not None
    assert result is not None
    assert run.external_id == result.external_id
    assert "/workflows/7/" in posts(hands)[-1][0]


@pytest.mark.parametrize("workflow", ["Deploy", "deploy.yml"])
async def test_n23_a_workflow_that_is_not_active_is_refused_with_its_state(api, hands, workflow):  # noqa: F811
    put_workflows(hands.github, GONE)
    with pytest.raises(ValidationFailed, match=r"not active: Deploy \(deploy.yml, deleted\)"):
        await executor.start(api, intent(workflow=workflow, ref="main"))
    assert posts(hands) == []


async def test_n23_several_active_ones_are_named_without_those_that_are_gone(api, hands):  # noqa: F811
    put_workflows(hands.github, GONE, DEPLOY, {**DEPLOY, "id": 8, "path": ".github/workflows/also.yml"})
    with pytest.raises(ValidationFailed) as caught:
        await executor.start(api, intent(workflow="Deploy", ref="main"))
    assert caught.value.message == "there is more than one workflow 'Deploy': Deploy (also.yml), Deploy (deploy.yml)"


async def test_n54_a_text_of_digits_is_the_name_of_a_workflow(api, hands):  # noqa: F811
    put_workflows(hands.github, {**PLAIN, "name": "7"}, DEPLOY)
    await executor.start(api, intent(workflow="7", ref="main"))
    assert posts(hands)[-1][0].endswith("/workflows/9/dispatches")
    await executor.start(api, intent(workflow=7, ref="main"))
    assert posts(hands)[-1][0].endswith("/workflows/7/dispatches")
