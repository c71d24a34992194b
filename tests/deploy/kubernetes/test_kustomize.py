"""The kustomize base and its overlay for PostgreSQL: kubectl renders them, servers accept them, and they run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.kubernetes import restricted
from tests.deploy.kubernetes.conftest import Scene
from tests.deploy.kubernetes.pods import Cluster, running
from tests.deploy.kubernetes.tools import ROOT, kustomize, refusals, rendered

BASE = ROOT / "deploy/kustomize/base"
POSTGRESQL = ROOT / "deploy/kustomize/postgresql"
VALUES = ROOT / "tests/deploy/values"
Scenes = Callable[[str], AbstractContextManager[Scene]]
Objects = tuple[Mapping[str, Any], ...]


def find(items: Objects, kind: str) -> Any:
    return next(item for item in items if item["kind"] == kind)


@pytest.mark.parametrize("folder", [BASE, POSTGRESQL], ids=["base", "postgresql"])
def test_a_kustomization_renders_objects_that_servers_of_three_versions_accept(folder: Path) -> None:
    items = kustomize(folder)
    assert refusals(items) == []
    assert [restricted.violations(pod) for pod in restricted.pods(items)] == [[]]
    assert not {item["kind"] for item in items} & {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
    labels = find(items, "Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [find(items, "Deployment")["spec"]["selector"]["matchLabels"], find(items, "Service")["spec"]["selector"]]
    selectors.append(find(items, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"])
    assert all(selector and selector.items() <= labels.items() for selector in selectors)


def test_the_base_agrees_with_the_default_of_the_chart() -> None:
    base, chart = kustomize(BASE), rendered(VALUES / "secret-files.yaml")
    ours, theirs = find(base, "Deployment")["spec"], find(chart, "Deployment")["spec"]
    assert ours["strategy"] == theirs["strategy"]
    assert ours["replicas"] == theirs["replicas"]
    pod, chart_pod = ours["template"]["spec"], theirs["template"]["spec"]
    for key in ("securityContext", "terminationGracePeriodSeconds", "automountServiceAccountToken", "enableServiceLinks"):
        assert pod[key] == chart_pod[key]
    (own,), (other,) = pod["containers"], chart_pod["containers"]
    for key in sorted({*own, *other} - {"env", "image"}):
        assert own[key] == other[key], key
    assert own["image"].rpartition(":")[2] == other["image"].rpartition(":")[2]
    env = {item["name"]: item["value"] for item in own["env"] if not item["name"].startswith("RECONCILER_SECRET_")}
    assert env == {item["name"]: item["value"] for item in other["env"]}
    assert {volume["name"] for volume in pod["volumes"]} == {volume["name"] for volume in chart_pod["volumes"]}
    for kind in ("Service", "NetworkPolicy", "PersistentVolumeClaim"):
        mine, its = dict(find(base, kind)["spec"]), dict(find(chart, kind)["spec"])
        for key in ("selector", "podSelector"):
            mine.pop(key, None), its.pop(key, None)
        assert mine == its, kind


def test_the_overlay_agrees_with_the_chart_on_postgresql() -> None:
    overlay, chart = kustomize(POSTGRESQL), rendered(VALUES / "postgres.yaml")
    ours, theirs = find(overlay, "Deployment")["spec"], find(chart, "Deployment")["spec"]
    assert ours["replicas"] == theirs["replicas"]
    assert ours["strategy"] == theirs["strategy"]
    assert "PersistentVolumeClaim" not in {item["kind"] for item in overlay}
    assert "publishNotReadyAddresses" not in find(overlay, "Service")["spec"]
    for items in (overlay, chart):
        ports = {port["port"] for rule in find(items, "NetworkPolicy")["spec"]["egress"] for port in rule["ports"]}
        assert ports == {53, 443, 5432}
        assert find(items, "PodDisruptionBudget")["spec"]["minAvailable"] == 2


@pytest.mark.parametrize("folder", [BASE, POSTGRESQL], ids=["base", "postgresql"])
def test_a_kustomization_runs_and_ends_within_its_grace_period(folder: Path, scene: Scenes, tmp_path: Path) -> None:
    with scene(folder.name) as it, running(Cluster(list(kustomize(folder)), it.secrets, tmp_path), it.world) as pod:
        pod.wait_for("startupProbe")
        pod.wait_for("readinessProbe")
        assert pod.probe("livenessProbe")
        assert len(it.hooks()) == 1
        assert pod.stop()[0] == 0


def test_an_overlay_changes_configuration_and_image_as_the_docs_say(tmp_path: Path) -> None:
    page = (ROOT / "docs/kubernetes.md").read_text()
    text = page.partition("# overlay/kustomization.yaml\n")[2].partition("```")[0]
    assert "../deploy/kustomize/base" in text
    (tmp_path / "kustomization.yaml").write_text(text.replace("../deploy/kustomize/base", os.path.relpath(BASE, tmp_path)))
    (tmp_path / "reconciler.yaml").write_text("source: {url: https://git.acme.example/other.git}\n")
    items = kustomize(tmp_path)
    assert refusals(items) == []
    config = find(items, "ConfigMap")
    assert "other.git" in config["data"]["reconciler.yaml"]
    pod = find(items, "Deployment")["spec"]["template"]["spec"]
    assert (
        pod["volumes"][[volume["name"] for volume in pod["volumes"]].index("config")]["configMap"]["name"]
        == config["metadata"]["name"]
    )
    assert pod["containers"][0]["image"].startswith("registry.example.com/reconciler:")
    assert {item["metadata"]["namespace"] for item in items} == {"integrations"}
