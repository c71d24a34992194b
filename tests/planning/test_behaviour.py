"""What a plan says about stages, filters, schedules, approvals, notifications and credentials: what runs, when, on whose behalf."""

from __future__ import annotations

import dataclasses
import json

import jsonschema
import pytest

from reconciler.engine.plan_document import plan_document
from reconciler.manifests import SourceFile, load
from reconciler.manifests.schema import schema
from reconciler.model.plan import Action, Manifests, PlanSet
from reconciler.planning import render
from reconciler.planning.behaviour import MOST_NAMES
from reconciler.planning.resources import resource_changes

NOW = 1_795_000_000.0  # Wed 2026-11-18 11:06:40 UTC

BASE = """
kind: Secret
metadata: {name: code}
spec: {provider: env, data: {token: {env: RECONCILER_SECRET_TOKEN}}}
---
kind: Integration
metadata: {name: code}
spec:
  type: github
  url: https://github.com/acme
  auth: {use: token, token: {valueFrom: {secret: {name: code, key: token}}}}
---
kind: EventSource
metadata: {name: pushes}
spec:
  integration: {name: code}
  resource: {type: repository, name: shop}
  events: [{type: push, filters: [{type: data, data: {expression: '$.ref == "refs/heads/main"'}}]}]
---
kind: EventSource
metadata: {name: nightly}
spec: {type: schedule, schedule: {cron: "0 9 * * 1-5", timeZone: Europe/Berlin}}
---
kind: Stage
metadata: {name: deploy}
spec:
  connections:
    - {type: event-source, name: pushes, filters: [{type: data, data: {expression: '$.forced == false'}}]}
    - {type: event-source, name: nightly}
  conditions:
    - {type: approval, approval: {count: 2, approvers: [alice, bob]}}
    - {type: time-window, timeWindow: {start: "09:00", end: "16:00", weekDays: [Monday, Tuesday], timeZone: Europe/Berlin}}
  executor:
    type: github
    integration: {name: code}
    resource: {type: repository, name: shop}
    spec: {workflow: deploy.yml, ref: main}
"""


def planned(before: str, after: str) -> PlanSet:
    sides = []
    for text in (before, after):
        desired = load([SourceFile("all.yaml", text, text.encode())] if text else [], revision="main@sha1:1", sandbox=True)
        assert desired.problems == ()
        sides.append(desired.by_id())
    return PlanSet("main@sha1:1", (), resource_changes(*sides), manifests=Manifests(*sides))


def outputs(planset: PlanSet) -> dict[str, str]:
    page = plan_document(planset, now=NOW)
    document = render.json_text(page)
    jsonschema.Draft202012Validator(schema("plan")).validate(json.loads(document))
    return {
        "text": " ".join(render.text(page, width=200).split()),
        "markdown": render.markdown(page),
        "json": document.replace('\\"', '"'),
        "github": render.workflow_commands(page),
        "sarif": render.sarif(page, version="1").replace('\\"', '"'),
    }


def test_a_new_stage_says_what_runs_when_after_which_approval_and_on_whose_behalf():
    for name, text in outputs(planned("", BASE)).items():
        for words in (
            "GitHub repository shop (ref main, workflow deploy.yml)",
            "an event of EventSource/pushes if $.forced == false",
            "next Thu 2026-11-19 09:00 CET, Fri 2026-11-20 09:00 CET, Mon 2026-11-23 09:00 CET",
            "2 of alice, bob",
            "09:00 to 16:00 Europe/Berlin on Mon, Tue",
            "Integration/code: GitHub https://github.com/acme with token (secret:code/token)",
            'push if $.ref == "refs/heads/main"',
            "EventSource/pushes, Stage/deploy",
        ):
            assert words in text, (name, words)


@pytest.mark.parametrize(
    ("old", "new", "stage", "fact"),
    [
        ("$.forced == false", "true", "Stage/deploy", "an event of EventSource/pushes if true"),
        ("count: 2, approvers: [alice, bob]", "count: 1", "Stage/deploy", "1 of anyone who may approve"),
        ("approvers: [alice, bob]", "approvers: [mallory, eve]", "Stage/deploy", "2 of mallory, eve"),
        ("workflow: deploy.yml", "workflow: other.yml", "Stage/deploy", "workflow other.yml"),
        ("0 9 * * 1-5", "*/5 * * * *", "EventSource/nightly", "next Wed 2026-11-18 12:10 CET"),
        ("refs/heads/main", "refs/heads/x", "EventSource/pushes", 'push if $.ref == "refs/heads/x"'),
        ("key: token}}}", "key: other}}}", "Integration/code", "with token (secret:code/other)"),
        ("RECONCILER_SECRET_TOKEN", "RECONCILER_SECRET_OTHER", "Secret/code", "token (RECONCILER_SECRET_OTHER)"),
    ],
)
def test_each_change_of_behaviour_is_a_change_in_every_output_and_in_the_digest(old, new, stage, fact):
    before = BASE.replace("data: {token:", "data: {other: {env: RECONCILER_SECRET_X}, token:")
    assert old in before
    made = planned(before, before.replace(old, new))
    assert str(made.resources[0].resource) == stage
    assert made.resources[0].action is Action.UPDATE
    assert not made.empty
    assert made.sha256 != planned(before, before).sha256
    assert render.exit_code(made, detailed=True) == 2
    for name, text in outputs(made).items():
        assert (stage.replace("/", "/default/") if name == "json" else stage) in text, name
        assert fact in text, name


def test_a_removed_stage_says_what_no_longer_runs():
    made = planned(BASE, BASE[: BASE.index("---\nkind: Stage")])
    assert [change.action for change in made.resources] == [Action.DELETE]
    for name, text in outputs(made).items():
        assert "what it did ends" in text, name
        assert "workflow deploy.yml" in text, name


def test_a_new_integration_in_the_stages_own_canvas_takes_the_stage_over_and_the_plan_says_so():
    """D-class trap: the stage's manifest is the same, and it acts for another account."""
    before = BASE.replace("{name: deploy}", "{name: deploy, canvasId: team}")
    added = """
---
kind: Integration
metadata: {name: code, canvasId: team}
spec: {type: github, url: https://github.com/mallory, auth: {use: token, token: {valueFrom: {secret: {name: code, key: token}}}}}
"""
    made = planned(before, before + added)
    stage = next(change for change in made.resources if change.resource.kind == "Stage")
    assert [(field.path, field.before, field.after) for field in stage.fields] == [
        ("/references/Integration/code", "Integration/code", "Integration/code@team")
    ]
    for name, text in outputs(made).items():
        assert "refers to another resource now" in text, name
        assert "https://github.com/mallory" in text, name
    assert stage.digest != next(r for r in made.manifests.after.values() if r.id == stage.resource).spec_digest


def test_a_changed_label_is_a_change_since_notifications_select_by_it():
    made = planned(BASE, BASE.replace("{name: deploy}", "{name: deploy, labels: {tier: prod}}"))
    assert [(f.path, f.before, f.after) for f in made.resources[0].fields] == [("/metadata/labels/tier", None, "prod")]
    assert made.sha256 != planned(BASE, BASE.replace("{name: deploy}", "{name: deploy, labels: {tier: test}}")).sha256


def test_moving_a_manifest_to_another_line_changes_neither_plan_nor_digest():
    assert planned(BASE, "\n\n" + BASE).empty


def test_a_local_secret_never_shows_its_value():
    text = "kind: Secret\nmetadata: {name: s}\nspec: {provider: local, local: {data: {key: HUNTER2}}}\n"
    for made in (planned("", text), planned(text, text.replace("HUNTER2", "OTHER")), planned(text, "")):
        for name, shown in outputs(made).items():
            assert "HUNTER2" not in shown, name
            assert "OTHER" not in shown, name
            assert "(secret)" in shown, name


def test_a_dry_run_an_own_identity_and_a_notification_are_described():
    text = (
        BASE
        + """
---
kind: Notification
metadata: {name: people}
spec:
  on: [stage-failed]
  resources: {kinds: [Stage], names: ["deploy*"]}
  sink: {webhook: {url: "https://hooks.example/x?token=hidden"}}
---
kind: Stage
metadata: {name: call}
spec:
  connections: [{type: stage, name: deploy}]
  dryRun: true
  executor: {type: http, spec: {url: "https://api.example/run", method: POST, auth: {oidc: {audience: api.example}}}}
"""
    )
    assert all("hidden" not in output for output in outputs(planned(BASE, text)).values())
    shown = outputs(planned(BASE, text))["text"]
    for words in (
        "an execution of Stage/deploy",
        "as a dry run: the run is not started",
        "an ID token of this installation for api.example",
        "notifies on: stage-failed",
        "kinds Stage; names deploy*",
    ):
        assert words in shown, words


def test_who_uses_a_credential_is_bounded_and_counted():
    stages = "".join(
        f"---\nkind: Stage\nmetadata: {{name: s{i:02}}}\nspec: {{connections: [{{type: event-source, name: nightly}}], "
        "executor: {type: github, integration: {name: code}, resource: {type: repository, name: shop}, "
        "spec: {workflow: a.yml, ref: main}}}\n"
        for i in range(20)
    )
    before = BASE + stages
    made = planned(before, before.replace("https://github.com/acme", "https://github.com/other"))
    assert f"and {20 + 2 - MOST_NAMES} more" in outputs(made)["text"]


def test_without_a_clock_a_schedule_has_no_next_runs():
    page = render.document(planned("", BASE))
    assert "next Thu" not in render.text(page)
    assert "cron 0 9 * * 1-5 Europe/Berlin" in render.text(page, width=200)


def test_facts_do_not_depend_on_the_order_of_the_documents():
    parts = BASE.split("---\n")
    assert outputs(planned("", "---\n".join(reversed(parts)))).keys()
    first, second = planned("", BASE), planned("", "---\n".join(reversed(parts)))
    assert [dataclasses.replace(c, location=first.resources[0].location) for c in first.resources] == [
        dataclasses.replace(c, location=first.resources[0].location) for c in second.resources
    ]
