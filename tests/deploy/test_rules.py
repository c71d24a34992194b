"""The rules of Prometheus and the dashboard: `promtool` accepts them, each alert has a page, and they name metrics that exist."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from reconciler.cli.parser import build_parser
from reconciler.server.metric_table import METRICS
from tests.support.dashboard import dashboard, panels, queries, targets
from tests.support.prometheus import CALM, FAST, ROOT, RULES, alerts, binary, hastened

RUNBOOKS = ROOT / "docs" / "runbooks"
SECTIONS = ("Meaning", "Impact", "Diagnosis", "Mitigation")
FOREIGN = {"up", "ALERTS"}
"""Metrics of Prometheus itself."""
UNITS = {"none", "s", "bytes", "ops", "reqps", "percentunit", "short"}
_WORDS = re.compile(r"\b(?:reconciler|process|python)_[a-z_]+|\bup\b|\bALERTS\b")


def exposed() -> set[str]:
    """Return the names of all series."""
    names: set[str] = set()
    for spec in METRICS.values():
        ends = ("_bucket", "_sum", "_count") if spec.type == "histogram" else ("",)
        names |= {spec.name + end for end in ends}
    return names | FOREIGN


def named(expr: str) -> set[str]:
    """Return the metrics that an expression names: everything outside of strings, label lists and groupings."""
    plain = re.sub(r'"[^"]*"', "", expr)
    plain = re.sub(r"\{[^}]*\}|\b(?:by|on|without)\s*\([^)]*\)", "", plain)
    return set(_WORDS.findall(plain))


def labels_of(expr: str) -> set[tuple[str, str]]:
    """Return (metric, label) for each label in a selector."""
    found = re.findall(r"([a-z_]+)\{([^}]*)\}", expr)
    return {(name, label) for name, body in found for label in re.findall(r"(\w+)\s*=?[=~!]", re.sub(r'"[^"]*"', "", body))}


def promtool(*arguments: str) -> None:
    done = subprocess.run([binary("promtool"), *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules_and_their_tests_pass() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    promtool("test", "rules", str(RULES.parent / "rules_test.yaml"))


def test_each_alert_is_tested_to_fire_and_to_be_silent() -> None:
    tests = yaml.safe_load((RULES.parent / "rules_test.yaml").read_text())["tests"]
    fires, silent = set(), set()
    for test in tests:
        instances = {place for row in test["input_series"] for place in re.findall(r'instance="(\w)', row["series"])}
        for case in test["alert_rule_test"]:
            at = {alert["exp_labels"].get("instance", "") for alert in case["exp_alerts"]}
            assert "b:8080" not in at
            fires |= {case["alertname"]} if at else set()
            silent |= {case["alertname"]} if "b" in instances else set()
    assert fires == silent == {*alerts()}


def test_the_rules_are_a_plain_file_of_groups() -> None:
    document = yaml.safe_load(RULES.read_text())
    assert list(document) == ["groups"]  # the chart puts it into a PrometheusRule


@pytest.mark.parametrize("name", sorted(alerts()))
def test_each_alert_says_how_bad_what_and_where_to_read_on(name: str) -> None:
    rule = alerts()[name]
    assert rule["labels"] == {"severity": rule["labels"]["severity"], "service": "reconciler"}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert re.fullmatch(r"\d+[mh]", rule["for"])
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"


@pytest.mark.parametrize("name", sorted(alerts()))
def test_each_alert_has_a_page_with_its_expression(name: str) -> None:
    page = (RUNBOOKS / f"{name}.md").read_text()
    assert page.startswith(f"# {name}\n")
    assert tuple(re.findall(r"^## (.+)$", page, re.MULTILINE)) == SECTIONS
    assert "```console\n$ " in page
    assert f"| {alerts()[name]['labels']['severity']} |" in page


@pytest.mark.parametrize("name", sorted(alerts()))
def test_each_command_of_a_page_is_taken_as_it_stands(name: str) -> None:
    page = (RUNBOOKS / f"{name}.md").read_text()
    shown = re.findall(r"^\$ reconciler ([a-z][^\n|>;]*)", page, re.MULTILINE)
    named = re.findall(r"`reconciler ([a-z][^`|>;]*)`", re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL))
    for command in shown + named:
        build_parser().parse_args(shlex.split(command.replace("…", "0" * 64)))


def test_there_is_no_page_without_an_alert_and_the_index_lists_all() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == {*alerts()}
    listed = re.findall(r"\]\((\w+)\.md\)", (RUNBOOKS / "README.md").read_text())
    assert sorted(set(listed)) == sorted(alerts())


def test_rules_and_dashboard_name_only_metrics_and_labels_that_exist() -> None:
    for expr in [rule["expr"] for rule in alerts().values()] + queries("x"):
        assert named(expr), expr
        assert named(expr) <= exposed(), expr
        for metric, label in labels_of(expr):
            base = re.sub(r"_(bucket|sum|count)$", "", metric)
            known = METRICS.get(base) or METRICS.get(metric)
            assert known is None or label in {*known.labels, "job", "instance", "le"}, expr


@pytest.mark.parametrize("pace", [FAST, CALM], ids=lambda pace: pace.name)
def test_hastened_rules_are_the_same_but_for_their_times(pace: object, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(hastened(RULES.read_text(), pace))  # type: ignore[arg-type]
    promtool("check", "rules", str(file))
    numbers = re.compile(r"\d+(\.\d+)?[smhd]?")
    for name, rule in alerts(file.read_text()).items():
        assert numbers.sub("N", rule["expr"]) == numbers.sub("N", alerts()[name]["expr"])


# -- the dashboard -------------------------------------------------------------------------------------------------------


def test_the_dashboard_has_the_form_that_grafana_imports() -> None:
    board = dashboard()
    assert board["uid"] == "reconciler"
    assert board["schemaVersion"] >= 36
    assert [row["name"] for row in board["templating"]["list"]] == ["datasource", "job", "instance", "docs"]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    places = [panel["gridPos"] for panel in board["panels"]]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells)), "panels overlap"
    assert max(x for x, _ in cells) < 24


def test_each_panel_has_a_unit_a_description_and_a_runbook() -> None:
    linked: set[str] = set()
    for panel in panels():
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        pages = [re.fullmatch(r"\$\{docs\}/runbooks/(\w+)\.md", link["url"]) for link in panel["links"]]
        assert pages, panel["title"]
        linked |= {page[1] for page in pages if page}
    assert linked <= {*alerts()}
    # The others are about a daemon that shows nothing.
    assert {*alerts()} - linked == {"ReconcilerAbsent"}


def test_each_query_uses_the_chosen_data_source_and_job() -> None:
    for target in targets():
        assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        selectors = re.findall(r"[a-z_]+\{", target["expr"])
        assert len(selectors) == target["expr"].count('job=~"$job",instance=~"$instance"') > 0, target["expr"]
