"""What no apply can do does not validate, what is decidable offline is an error offline, and one cause is one error."""
# ruff: noqa: E501 (one case a line)

from __future__ import annotations

import pytest

from reconciler.drivers.http.network import refusal_of_literals
from reconciler.manifests import SourceFile, load
from reconciler.manifests.schedules import never_fires, next_slot
from reconciler.model.errors import Problem
from reconciler.model.resources import Desired

SECRET = "kind: Secret\nmetadata: {name: s}\nspec: {provider: env, data: {token: {env: RECONCILER_SECRET_X}}}\n---\n"
REF = "{valueFrom: {secret: {name: s, key: token}}}"
URLS = {"github": "https://github.com/acme", "semaphore": "https://acme.semaphoreci.com", "buddy": "https://app.buddy.works/acme"}
ENDS = "{values: [{name: A, valueFrom: {eventData: {connection: %s, expression: $.a}}}]}"


def desire(*texts: str, allow: tuple[str, ...] = ()) -> Desired:
    files = [SourceFile(f"f{number}.yaml", str(number), text.encode()) for number, text in enumerate(texts)]
    return load(files, revision="r", refused=refusal_of_literals(allow))


def problems(*texts: str, allow: tuple[str, ...] = ()) -> list[Problem]:
    return list(desire(*texts, allow=allow).problems)


def integration(kind: str, url: str = "", more: str = "") -> str:
    where = f"url: {url or URLS[kind]}, " if url or kind in URLS else ""
    return (
        SECRET
        + f"kind: Integration\nmetadata: {{name: {kind}}}\nspec: {{type: {kind}, {where}auth: {{use: token, token: {REF}}}{more}}}\n"
    )


def source(kind: str, spec: str) -> str:
    return integration(kind) + f"---\nkind: EventSource\nmetadata: {{name: x}}\nspec: {{integration: {{name: {kind}}}, {spec}}}\n"


def stage(*lines: str, connections: str = "[{type: event-source, name: a}]", executor: str = "{type: noop}") -> str:
    body = "".join(f"  {line}\n" for line in (f"connections: {connections}", f"executor: {executor}", *lines))
    sources = "".join(f"kind: EventSource\nmetadata: {{name: {name}}}\nspec: {{type: manual}}\n---\n" for name in "ab")
    return f"{sources}kind: Stage\nmetadata: {{name: it}}\nspec:\n{body}"


BOTH = "[{type: event-source, name: a}, {type: event-source, name: b}]"
BUILD = (
    "---\nkind: Stage\nmetadata: {name: build}\nspec: {connections: [{type: event-source, name: a}], executor: {type: noop}}\n"
)


# -- N18 ------------------------------------------------------------------------------------------------------------------


def test_n18_a_mapping_for_all_connections_cannot_read_the_event_of_one() -> None:
    [found] = problems(stage("inputs: [{name: A}]", f"inputMappings: [{ENDS % 'a'}]", connections=BOTH))
    assert (found.code, found.pointer) == ("RC1275", "/spec/inputMappings/0/values/0/valueFrom/eventData/connection")
    assert "'b'" in found.message
    assert "triggeredBy" in found.hint
    assert problems(stage("inputs: [{name: A}]", f"inputMappings: [{ENDS % 'a'}]")) == []


def test_n18_a_mapping_for_one_connection_cannot_read_the_event_of_another() -> None:
    mappings = [
        f"{{when: {{triggeredBy: {{connection: {name}}}}}, values: [{{name: A, valueFrom: {{eventData: {{connection: a, expression: $.a}}}}}}]}}"
        for name in "ab"
    ]
    [found] = problems(stage("inputs: [{name: A}]", f"inputMappings: [{', '.join(mappings)}]", connections=BOTH))
    assert (found.code, found.pointer) == ("RC1275", "/spec/inputMappings/1/values/0/valueFrom/eventData/connection")


@pytest.mark.parametrize(
    "mapping",
    [
        "{when: {triggeredBy: {connection: build}}, values: [{name: A, value: x}]}",
        "{when: {triggeredBy: {connection: build}}, values: [{name: A, valueFrom: {eventData: {connection: build, expression: $.a}}}]}",
        ENDS % "build",
    ],
)
def test_n18_a_connection_that_is_spelled_wrongly_is_one_error_with_the_right_name(mapping: str) -> None:
    text = stage("inputs: [{name: A}]", f"inputMappings: [{mapping}]", connections="[{type: stage, name: biuld}]") + BUILD
    [found] = problems(text)
    assert (found.code, found.pointer, found.hint) == ("RC1212", "/spec/connections/0/name", "Did you mean 'build'?")


@pytest.mark.parametrize(
    ("lines", "code", "hint"),
    [
        (("inputs: [{name: A}]", "inputMappings: [{when: {triggeredBy: {connection: aa}}, values: [{name: A, value: x}]}]"), "RC1210", "'a'"),
        (("inputs: [{name: version}]", "inputMappings: [{values: [{name: versoin, value: x}]}]"), "RC1210", "'version'"),
        (("inputs: [{name: versoin}]", "inputMappings: [{values: [{name: version, value: x}]}]", "report: {commitStatus: {context: '${{ inputs.version }}'}}"), "RC1210", "'versoin'"),
        (("inputs: [{name: A}]", "inputMappings: [{values: [{name: A, value: '${{ inputs.A }}'}]}]"), "RC1302", "event"),
        (("report: {commitStatus: {context: '${{ secrets.A }}'}}",), "RC1302", "inputs"),
    ],
)  # fmt: skip
def test_n18_one_wrong_name_in_a_stage_is_one_error(lines: tuple[str, ...], code: str, hint: str) -> None:
    [found] = problems(stage(*lines))
    assert found.code == code
    assert hint in found.hint


def test_n18_references_are_checked_where_the_schema_fails_elsewhere() -> None:
    found = problems(stage("quueue: fifo", connections="[{type: stage, name: biuld}]") + BUILD)
    assert sorted(one.code for one in found) == ["RC1100", "RC1212"]
    assert "Did you mean 'build'?" in [one.hint for one in found]


def test_n18_what_stands_in_a_document_that_cannot_be_read_is_not_missing_as_well() -> None:
    for broken in ("kind: Stagee\nmetadata: {name: build}\nspec: {}\n", "kind: Stage\nspec: {a: [}\nmetadata:\n  name: build\n"):
        desired = desire(stage(connections="[{type: stage, name: build}]"), broken)
        assert len({one.location.file for one in desired.problems}) == 1, desired.problems
        assert "Stage/it" not in [str(one.id) for one in desired.resources], "it may not act before that is known"
        assert "Stage/it" in [str(one) for one in desired.invalid]


# -- N19 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "pointer"),
    [
        (source("github", "resource: {type: repository, name: web}, events: [{type: pull-request}]"), "RC1277", "/spec/events/0/type"),
        (source("github", "resource: {type: repository, name: web}, events: [{type: Push}]"), "RC1277", "/spec/events/0/type"),
        (source("semaphore", "resource: {type: project, name: web}, events: [{type: push}]"), "RC1277", "/spec/events/0/type"),
        (source("buddy", "resource: {type: project, name: web}, events: [{type: pushed}]"), "RC1277", "/spec/events/0/type"),
        (source("github", 'resource: {type: repository, name: "web\\n"}'), "RC1276", "/spec/resource/name"),
        (source("github", "resource: {type: repository, name: 'acme/web/'}"), "RC1276", "/spec/resource/name"),
        (source("github", "resource: {type: repository, name: 'https://github.com/acme/web'}"), "RC1276", "/spec/resource/name"),
        (source("github", "resource: {type: repository, name: web.git}"), "RC1276", "/spec/resource/name"),
        (source("github", "resource: {type: repository, name: ..}"), "RC1276", "/spec/resource/name"),
        (source("github", "resource: {type: organization, name: acme/web}"), "RC1276", "/spec/resource/name"),
        (source("github", "resource: {type: organization, match: 'a*'}"), "RC1276", "/spec/resource/match"),
        (source("github", "resource: {type: repository, match: 'a b*'}"), "RC1276", "/spec/resource/match"),
        (source("github", "resource: {type: repository, match: '*/web'}"), "RC1276", "/spec/resource/match"),
        (source("github", "resource: {type: repository, names: [web, Web]}"), "RC1208", "/spec/resource/names/1"),
        (source("github", "resource: {type: repository, name: web}, events: [{type: push}, {type: push}]"), "RC1208", "/spec/events/1"),
        (source("semaphore", "resource: {type: project, name: '/.*/'}"), "RC1276", "/spec/resource/name"),
        (source("buddy", "resource: {type: workspace, name: Acme Inc}"), "RC1276", "/spec/resource/name"),
        (source("buddy", "resource: {type: project, name: a/b/c}"), "RC1276", "/spec/resource/name"),
        (source("buddy", "resource: {type: project, match: 'acme/*'}"), "RC1276", "/spec/resource/match"),
        (integration("github", "https://github.com/orgs/acme"), "RC1276", "/spec/url"),
        (integration("github", "https://github.com"), "RC1276", "/spec/url"),
        (integration("github", "https://github.com/acme/web/settings"), "RC1276", "/spec/url"),
        (integration("github", "https://github.com/acme?tab=x"), "RC1276", "/spec/url"),
        (integration("semaphore", "https://semaphoreci.com"), "RC1276", "/spec/url"),
        (integration("semaphore", "https://acme.semaphoreci.com/projects/web"), "RC1276", "/spec/url"),
        (integration("buddy", "https://app.buddy.works/acme/web"), "RC1276", "/spec/url"),
        (integration("github", more=", apiUrl: 'http://169.254.169.254'"), "RC1279", "/spec/apiUrl"),
        (integration("github", more=", apiUrl: 'https://10.0.0.1/api/v3'"), "RC1279", "/spec/apiUrl"),
        (integration("github", more=", apiUrl: 'https://[::1]/api'"), "RC1279", "/spec/apiUrl"),
        (integration("github", more=", apiUrl: 'https://[::ffff:7f00:1]/api'"), "RC1279", "/spec/apiUrl"),
        (integration("github", more=", apiUrl: 'https://2130706433/api'"), "RC1279", "/spec/apiUrl"),
        (integration("github", more=", apiUrl: 'https://0x7f.1/api'"), "RC1279", "/spec/apiUrl"),
        (integration("github", more=", lifecycle: {interval: 0s}"), "RC1278", "/spec/lifecycle/interval"),
        (integration("github", more=", lifecycle: {ignore: [{path: /a}, {path: /a}]}"), "RC1208", "/spec/lifecycle/ignore/1"),
        ("kind: EventSource\nmetadata: {name: x}\nspec: {type: schedule, schedule: {cron: '0 0 31 2 *'}}\n", "RC1278", "/spec/schedule/cron"),
        ("kind: EventSource\nmetadata: {name: x}\nspec: {type: manual, schedule: {cron: '0 0 * * *'}}\n", "RC1206", "/spec/schedule"),
        (stage("conditions: [{type: approval, approval: {count: 1, approvers: []}}]"), "RC1278", "/spec/conditions/0/approval/approvers"),
        (stage("conditions: [{type: approval, approval: {count: 3, approvers: [a, b]}}]"), "RC1278", "/spec/conditions/0/approval/approvers"),
        (stage("conditions: [{type: time-window, timeWindow: {start: '09:00', end: '10:00', weekDays: [Monday, monday]}}]"), "RC1208", "/spec/conditions/0/timeWindow/weekDays/1"),
        (stage("timeout: 0"), "RC1278", "/spec/timeout"),
        (stage(executor="{type: http, spec: {url: https://x.example, poll: {url: https://x.example/a, successWhen: '\"${{ inputs.a }}\" == $.b'}}}"), "RC1302", "/spec/executor/spec/poll/successWhen"),
        (stage(executor="{type: http, spec: {url: https://x.example, poll: {url: https://y.example/a, successWhen: $.b}}}"), "RC1278", "/spec/executor/spec/poll/url"),
        (stage(executor="{type: http, spec: {url: https://x.example, poll: {url: https://x.example/a, successWhen: $.b, interval: 0}}}"), "RC1278", "/spec/executor/spec/poll/interval"),
        (stage(executor="{type: http, spec: {url: 'https://me:pw@x.example'}}"), "RC1279", "/spec/executor/spec/url"),
        (stage(executor="{type: http, spec: {url: 'ftp://x.example'}}"), "RC1279", "/spec/executor/spec/url"),
        (stage(executor="{type: http, spec: {url: 'http://127.0.0.1:8080/x'}}"), "RC1279", "/spec/executor/spec/url"),
        (stage(executor='{type: http, spec: {url: https://x.example, headers: {a: "b\\u00fc"}}}'), "RC1278", "/spec/executor/spec/headers/a"),
        (stage(connections="[{type: event-source, name: a, filters: [{type: data, data: {expression: '$.a == \"${{ inputs.b }}\"'}}]}]"), "RC1302", "/spec/connections/0/filters/0/data/expression"),
        (integration("semaphore") + "---\n" + stage(executor="{type: semaphore, integration: {name: semaphore}, resource: {type: project, name: w}, spec: {pipelineFile: x}}"), "RC1203", "/spec/executor/spec"),
        (integration("github") + "---\n" + stage(executor="{type: github, integration: {name: github}, resource: {type: repository, name: a/b/c}, spec: {workflow: x, ref: main}}"), "RC1276", "/spec/executor/resource/name"),
        (integration("github") + "---\n" + stage(executor="{type: github, integration: {name: github}, resource: {type: repository, name: w}, spec: {eventType: x, clientPayload: {a: 1, b: 1, c: 1, d: 1, e: 1, f: 1, g: 1, h: 1, i: 1, j: 1}}}"), "RC1278", "/spec/executor/spec/clientPayload"),
        ("kind: ConnectionGroup\nmetadata: {name: g}\nspec: {connections: [{type: event-source, name: a}], groupBy: {fields: [{name: v, expression: $.a}]}, timeout: 5s}\n---\n" + stage(), "RC1278", "/spec/timeout"),
        ("kind: Secret\nmetadata: {name: q}\nspec: {provider: file, data: {k: {path: a/}}}\n", "RC1276", "/spec/data/k/path"),
        ('kind: Secret\nmetadata: {name: q}\nspec: {provider: file, data: {k: {path: "a\\n"}}}\n', "RC1276", "/spec/data/k/path"),
    ],
)  # fmt: skip
def test_n19_what_no_apply_can_do_does_not_validate(text: str, code: str, pointer: str) -> None:
    found = problems(text)
    assert (code, pointer) in [(one.code, one.pointer) for one in found], found
    assert len({one.pointer for one in found}) == 1, found
    assert all(one.location.line > 1 for one in found)


def test_n19_an_event_type_names_the_one_that_was_meant() -> None:
    found = problems(source("github", "resource: {type: repository, name: web}, events: [{type: pull-request}]"))
    assert [one.hint for one in found] == ["Did you mean pull_request?"]
    assert problems(source("buddy", "resource: {type: project, name: web}, events: [{type: push}]")) == []


@pytest.mark.parametrize(
    "url",
    [
        "${{ event.url }}",
        "https://${{ event.host }}/jobs",
        "https://${{ event.host }}",
        "https://deploy.${{ event.zone }}/jobs",
        "https://deploy.example${{ event.path }}",
        "https://deploy.example:${{ event.port }}/jobs",
        "${{ event.scheme }}://deploy.example/jobs",
        "https://${{ event.user }}@deploy.example/jobs",
        "https:${{ event.rest }}/jobs",
        "https://${{ secrets.host }}/jobs",
    ],
)
@pytest.mark.parametrize("key", ["url", "poll"])
def test_n14_an_event_cannot_choose_which_host_is_called(url: str, key: str) -> None:
    spec = f"url: '{url}'" if key == "url" else f"url: https://deploy.example, poll: {{url: '{url}', successWhen: $.done}}"
    found = problems(stage(executor=f"{{type: http, spec: {{{spec}}}}}"))
    pointer = "/spec/executor/spec/url" if key == "url" else "/spec/executor/spec/poll/url"
    assert ("RC1279", pointer) in [(one.code, one.pointer) for one in found], found


OPEN = {
    "github": "resource: {type: repository, name: '${{ event.repository.name }}'}, allow: ['svc-*'], spec: {workflow: a.yml, ref: main}",
    "semaphore": "resource: {type: project, name: '${{ event.project }}'}, allow: [web], spec: {ref: main, pipelineFile: a.yml}",
    "buddy": "resource: {type: pipeline, name: '${{ event.name }}'}, allow: [web/deploy], spec: {workspace: acme, project: web}",
}


@pytest.mark.parametrize("kind", OPEN)
def test_n54_what_runs_may_come_out_of_the_event_at_every_provider(kind: str) -> None:
    run = f"{{type: {kind}, integration: {{name: {kind}}}, {OPEN[kind]}}}"
    assert problems(integration(kind), stage(executor=run)) == []


@pytest.mark.parametrize(
    "end", ["/${{ event.id }}", "?id=${{ event.id }}", "#${{ event.id }}", "/a/${{ event.a }}/${{ event.b }}"]
)
def test_n14_templates_behind_the_host_are_allowed(end: str) -> None:
    assert problems(stage(executor=f"{{type: http, spec: {{url: 'https://deploy.example{end}'}}}}")) == []


@pytest.mark.parametrize("allow", [("10.0.0.0/8",), ("10.0.0.1",), ("10.0.0.1:443",)])
def test_n19_an_address_that_the_configuration_allows_validates(allow: tuple[str, ...]) -> None:
    text = integration("github", more=", apiUrl: 'https://10.0.0.1/api/v3'")
    assert problems(text, allow=allow) == []
    assert [one.code for one in problems(text, allow=("10.0.0.2",))] == ["RC1279"]


@pytest.mark.parametrize(
    "kind", ["Stage", "EventSource", "Secret", "Canvas", "Integration", "ConnectionGroup", "BuddyIntegration"]
)
def test_n19_no_pattern_of_a_schema_matches_before_a_last_line_break(kind: str) -> None:
    found = problems(f'kind: {kind}\nmetadata: {{name: "web\\n"}}\nspec: {{}}\n')
    assert ("RC1105", "/metadata/name") in [(one.code, one.pointer) for one in found]


@pytest.mark.parametrize("line", ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30-31 feb *", "0 0 31 2 */2"])
def test_n19_a_cron_line_without_a_date_never_fires(line: str) -> None:
    assert never_fires(line)
    assert next_slot({"cron": line}, 0.0) is None


@pytest.mark.parametrize("line", ["0 0 29 2 *", "0 0 31 1,2 *", "0 0 31 2 1", "* * * * *", "0 0 29-31 2 *"])
def test_n19_a_cron_line_with_a_date_fires(line: str) -> None:
    assert not never_fires(line)
    assert next_slot({"cron": line}, 0.0) is not None


@pytest.mark.parametrize(
    "executor",
    [
        "{type: github, integration: {name: i}, resource: {type: repository, name: '${{ event.repository.name }}'}, "
        "allow: [web, 'svc-*'], spec: {workflow: ci.yml, ref: main}}",
        "{type: semaphore, integration: {name: i}, resource: {type: project, name: '${{ event.repository.name }}'}, "
        "allow: ['svc-*'], spec: {ref: refs/heads/main}}",
        "{type: http, spec: {url: 'https://x.example/${{ event.ref }}?a=${{ event.a }}', headers: {A: '${{ event.a }}'}}}",
    ],
)
def test_n19_n44_a_template_where_one_is_replaced_is_no_fault_of_its_spelling(executor: str) -> None:
    kind = "semaphore" if "semaphore" in executor else "github"
    declared = (integration(kind).replace(f"{{name: {kind}}}", "{name: i}"), stage(executor=executor))
    assert [f"{one.code} {one.message}" for one in problems(*declared)] == []


@pytest.mark.parametrize(
    ("resource", "code"),
    [
        ("{type: repository, name: '${{ event.x'}", "RC1276"),
        ("{type: repository, name: 'a b'}", "RC1276"),
    ],
)
def test_n19_n44_half_a_template_is_no_name(resource: str, code: str) -> None:
    executor = f"{{type: github, integration: {{name: github}}, resource: {resource}, spec: {{workflow: ci.yml, ref: main}}}}"
    assert code in {one.code for one in problems(integration("github"), stage(executor=executor))}


@pytest.mark.parametrize("name", ["Host", "content-length", "Idempotency-Key", "X-Reconciler-Execution", "TE"])
def test_n19_a_header_that_would_not_be_sent_is_refused(name: str) -> None:
    said = problems(stage(executor=f"{{type: http, spec: {{url: 'https://x.example', headers: {{{name}: x, X-Mine: y}}}}}}"))
    assert [one.code for one in said] == ["RC1278"]
    assert name in said[0].message
