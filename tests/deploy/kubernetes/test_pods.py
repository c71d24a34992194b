"""Every rendered Deployment runs: its container is started with exactly its command, environment and files, until it is ready."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests.deploy.kubernetes.conftest import GIT_TOKEN, GITHUB_TOKEN, Scene
from tests.deploy.kubernetes.pods import AS_ROOT, Cluster, Running, running
from tests.deploy.kubernetes.tools import ROOT, VALUES, rendered

Scenes = Callable[[str], AbstractContextManager[Scene]]
WITHOUT_HOOKS = {"github-app", "preview"}
"""An App has no webhooks at repositories; without a public URL none is created."""


def cluster_of(values: Path, scene: Scene, folder: Path) -> Cluster:
    return Cluster(list(rendered(values)), scene.secrets, folder)


@pytest.mark.parametrize("values", VALUES, ids=[path.stem for path in VALUES])
def test_a_pod_of_a_value_set_becomes_ready_and_ends_within_its_grace_period(values: Path, scene: Scenes, tmp_path: Path) -> None:
    with scene(values.stem) as it:
        cluster = cluster_of(values, it, tmp_path)
        with running(cluster, it.world) as pod:
            pod.wait_for("startupProbe")
            pod.wait_for("readinessProbe")
            assert pod.probe("livenessProbe")
            check_identity(pod)
            check_effects(values.stem, it, pod)
            code, _ = pod.stop()
        assert code == 0, pod.text
        for secret in (GIT_TOKEN, GITHUB_TOKEN, "pr0xy", "canary-database"):
            assert secret not in pod.log.read_text()


def check_identity(pod: Running) -> None:
    """The process is what `restricted` promises."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pod.pid}/status").read_text().splitlines())
    assert status["NoNewPrivs"].strip() == "1"
    if AS_ROOT:
        assert status["Uid"].split() == ["65532"] * 4
        assert int(status["CapEff"], 16) == 0


def check_effects(name: str, scene: Scene, pod: Running) -> None:
    """The daemon reads the repository with the credentials of the values, and acts at GitHub with those of the manifests."""
    config = next(item for item in rendered(ROOT / f"tests/deploy/values/{name}.yaml") if item["kind"] == "ConfigMap")
    if name in WITHOUT_HOOKS:
        assert scene.github.admin.requests("installation" if name == "github-app" else "", "GET")
        assert scene.hooks() == []
    else:
        (hook,) = scene.hooks()
        assert "/hooks/" in hook
        assert hook.partition("/hooks/")[0] in config["data"]["reconciler.yaml"]
        port = pod.container["ports"][0]["containerPort"]
        path = "/hooks/" + hook.partition("/hooks/")[2]
        status, _ = pod.request("POST", port, path, body=b"{}")
        assert status == 401, "an unsigned delivery reaches the receiver, and is refused"
    if scene.proxy is not None:
        assert scene.proxy.hosts == {"github.com", "api.github.com"}
    if name == "oidc-issuer":
        status, body = pod.request("GET", 8080, "/.well-known/openid-configuration")
        assert (status, json.loads(body)["issuer"]) == (200, "https://oidc.acme.example/reconciler")
    if name == "dashboard-login":
        status, body = pod.request("GET", 8080, "/login")
        assert (status, b"/login/oidc" in body) == (200, True)
    if name == "ipv6":
        assert pod.request("GET", 8080, "/metrics")[0] == 200


def test_the_state_on_the_volume_survives_the_pod(scene: Scenes, tmp_path: Path) -> None:
    values = ROOT / "tests/deploy/values/minimal.yaml"
    with scene("minimal") as it:
        cluster = cluster_of(values, it, tmp_path)
        for _ in range(2):
            with running(cluster, it.world) as pod:
                pod.wait_for("readinessProbe")
                pod.stop()
            assert "state_files_repaired" not in pod.log.read_text()
            assert len(it.github.admin.requests("/hooks", "POST")) == 1
        (state,) = cluster.volumes.values()
        assert (state / "state/state.db").is_file()
        assert not (state / "state/master.key").exists()


def test_two_pods_on_postgresql_share_one_webhook(scene: Scenes, tmp_path: Path) -> None:
    values = ROOT / "tests/deploy/values/postgres.yaml"
    with scene("postgres") as it, ExitStack() as stack:
        pods = [stack.enter_context(running(cluster_of(values, it, tmp_path), it.world)) for _ in range(2)]
        for pod in pods:
            pod.wait_for("readinessProbe")
        assert len(it.github.admin.requests("/hooks", "POST")) == 1
        assert [pod.stop()[0] for pod in pods] == [0, 0]


def test_the_test_of_helm_passes_where_the_service_leads_to_a_ready_pod(scene: Scenes, tmp_path: Path) -> None:
    """`helm test` runs this pod; its name of the Service leads to the daemon here, as the DNS of the cluster would."""
    import subprocess
    import sys

    objects = rendered(ROOT / "tests/deploy/values/minimal.yaml")
    hook = next(item for item in objects if item["kind"] == "Pod")["spec"]["containers"][0]
    service = next(item for item in objects if item["kind"] == "Service")
    url = f"http://{service['metadata']['name']}.integrations.svc:{service['spec']['ports'][0]['port']}"
    assert url in hook["args"][0]
    with scene("minimal") as it, running(cluster_of(ROOT / "tests/deploy/values/minimal.yaml", it, tmp_path), it.world) as pod:
        pod.wait_for("readinessProbe")
        import asyncio
        import socket

        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]

        def answer() -> None:
            client, _ = listener.accept()
            with client:
                head = client.recv(4096)
                status, body = pod.request("GET", 8080, head.split()[1].decode())
                client.sendall(b"HTTP/1.1 %d x\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))

        import threading

        thread = threading.Thread(target=answer)
        thread.start()
        script = hook["args"][0].replace(url, f"http://127.0.0.1:{port}")
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
        thread.join(10)
        listener.close()
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("200 ")
        del asyncio
        pod.stop()


def test_the_kubelet_of_these_tests_refuses_what_a_kubelet_refuses(scene: Scenes, tmp_path: Path) -> None:
    """A Secret without the key of the values keeps the pod from starting."""
    with scene("minimal") as it:
        del it.secrets["master.key"]
        with (
            pytest.raises(KeyError, match=r"master\.key"),
            running(cluster_of(ROOT / "tests/deploy/values/minimal.yaml", it, tmp_path), it.world),
        ):
            pass
    assert os.geteuid() == 0 or not AS_ROOT
