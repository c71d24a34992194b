"""Every rendered Deployment runs: its container is started with exactly its command, environment and files, until it is ready."""

from __future__ import annotations

import copy
import json
import re
import shlex
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from reconciler.model.exit_codes import EXIT_CONFIG
from tests.deploy.kubernetes.conftest import GIT_TOKEN, GITHUB_TOKEN, Scene, Servers
from tests.deploy.kubernetes.pods import AS_ROOT, OPENSHIFT_ID, Cluster, Running, running
from tests.deploy.kubernetes.tools import ROOT, VALUES, rendered
from tests.deploy.kubernetes.world import Route

MINIMAL = ROOT / "tests/deploy/values/minimal.yaml"
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
        assert set(status["Uid"].split()) <= {"65532", str(OPENSHIFT_ID)}
        assert int(status["CapEff"], 16) == 0


def check_effects(name: str, scene: Scene, pod: Running) -> None:
    """The daemon reads the repository with the credentials of the values, and acts at GitHub with those of the manifests."""
    config = next(item for item in rendered(ROOT / f"tests/deploy/values/{name}.yaml") if item["kind"] == "ConfigMap")
    if name in WITHOUT_HOOKS:
        assert scene.github.admin.requests("installation" if name == "github-app" else "", "GET")
        assert scene.hooks() == []
    else:
        hook, *more = scene.hooks()
        assert len(more) == (1 if name == "signers" else 0)
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
    with scene("minimal") as it:
        cluster = cluster_of(MINIMAL, it, tmp_path)
        for _ in range(2):
            with running(cluster, it.world) as pod:
                pod.wait_for("readinessProbe")
                pod.stop()
            assert "state_files_repaired" not in pod.log.read_text()
            assert len(it.github.admin.requests("/hooks", "POST")) == 1
        (state,) = cluster.volumes.values()
        assert (state / "state/state.db").is_file()
        assert not (state / "state/master.key").exists()


def test_a_pod_refuses_a_revision_that_no_allowed_signer_has_signed(scene: Scenes, servers: Servers, tmp_path: Path) -> None:
    with scene("signers") as it:
        it.secrets["allowed_signers"] = f"eve@example.com {servers.sshd.client_key.with_name('host.pub').read_text()}"
        with running(cluster_of(ROOT / "tests/deploy/values/signers.yaml", it, tmp_path), it.world) as pod:
            pod.until(lambda: "RC2014" in pod.text, "refusal")
            assert not pod.probe("readinessProbe")
            assert it.hooks() == []


@pytest.mark.skipif(not AS_ROOT, reason="only root gives files to the group of the pod")
def test_a_pod_without_fs_group_cannot_read_its_credentials(scene: Scenes, tmp_path: Path) -> None:
    """As with a kubelet, the files belong to root then: a chart that forgets the group does not pass here."""
    with scene("minimal") as it:
        cluster = cluster_of(MINIMAL, it, tmp_path)
        cluster.objects = copy.deepcopy(cluster.objects)
        del cluster.pod()["securityContext"]["fsGroup"]  # type: ignore[attr-defined]
        with running(cluster, it.world) as pod:
            assert pod.process.wait(60) == EXIT_CONFIG, pod.text
        assert "ermission denied" in pod.text, pod.text


def test_two_pods_on_postgresql_share_one_webhook(scene: Scenes, tmp_path: Path) -> None:
    values = ROOT / "tests/deploy/values/postgres.yaml"
    with scene("postgres") as it, ExitStack() as stack:
        pods = [stack.enter_context(running(cluster_of(values, it, tmp_path), it.world)) for _ in range(2)]
        for pod in pods:
            pod.wait_for("readinessProbe")
        assert len(it.github.admin.requests("/hooks", "POST")) == 1
        assert [pod.stop()[0] for pod in pods] == [0, 0]


@pytest.mark.skipif(not AS_ROOT, reason="only root can enter the namespaces of a container")
def test_the_commands_of_the_notes_and_the_docs_work_in_the_pod(scene: Scenes, tmp_path: Path) -> None:
    notes = (ROOT / "deploy/helm/reconciler/templates/NOTES.txt").read_text()
    page = (ROOT / "docs/kubernetes.md").read_text()
    lines = sorted(
        {line.partition(" -- ")[2] for text in (notes, page) for line in text.splitlines() if " -- reconciler " in line}
    )
    backup, restore, line = lines
    away = re.findall(r"-- sh -c '(cd .*)'$", page, re.MULTILINE)
    config = ("--config", "/etc/reconciler/reconciler.yaml")
    with scene("minimal") as it, running(cluster := cluster_of(MINIMAL, it, tmp_path), it.world) as pod:
        pod.wait_for("readinessProbe")
        shown = pod.execute(*shlex.split(line))
        assert "3 ready" in shown.stdout, shown.stderr
        doctor = pod.execute("reconciler", "doctor", *config)
        assert doctor.returncode == 0, doctor.stdout + doctor.stderr
        assert pod.execute("reconciler", "healthcheck").returncode == 0
        copied = pod.execute(*shlex.split(backup))
        assert copied.returncode == 0, copied.stderr
        assert pod.execute("cp", "-p", "/tmp/state.db", "/tmp/state.db.sha256", "/var/lib/reconciler").returncode == 0
        assert pod.execute("touch", "/etc/reconciler/x", "/run/reconciler/x", "/x").stderr.count("Read-only file system") == 3
        pod.stop()
        idle = cluster_of(MINIMAL, it, tmp_path)
        idle.objects, idle.volumes = copy.deepcopy(idle.objects), cluster.volumes
        idle.pod()["containers"][0] |= {"command": ["sleep", "3600"], "args": []}
        with running(idle, it.world) as pod:
            pod.until(lambda: pod.execute("cp", "-p", "/var/lib/reconciler/state.db", "/tmp/").returncode == 0, "the pod")
            assert pod.execute("sh", "-c", *away).returncode == 0
            restored = pod.execute(*shlex.split(restore))
            assert restored.returncode == 0, restored.stdout + restored.stderr
        with running(cluster, it.world) as pod:
            pod.wait_for("readinessProbe")
            assert len(it.github.admin.requests("/hooks", "POST")) == 1
            pod.stop()


@pytest.mark.skipif(not AS_ROOT, reason="only root can enter the namespaces of a container")
def test_the_test_of_helm_passes_where_the_service_leads_to_a_ready_pod(scene: Scenes, tmp_path: Path) -> None:
    """The script of the hook runs in the pod's network, in which the name and port of the Service lead to the daemon."""
    hook = next(item for item in rendered(MINIMAL) if item["kind"] == "Pod")["spec"]["containers"][0]
    service = next(item for item in rendered(MINIMAL) if item["kind"] == "Service")
    name, port = f"{service['metadata']['name']}.integrations.svc", service["spec"]["ports"][0]["port"]
    with scene("minimal") as it, socket.create_server(("127.0.0.1", 0)) as listener:
        it.world.routes.append(Route(name, port, listener.getsockname()[1], tls=False))
        it.world.addresses[name] = "10.96.0.99"
        with running(cluster_of(MINIMAL, it, tmp_path), it.world) as pod:
            pod.wait_for("readinessProbe")
            threading.Thread(target=_forward, args=(listener, pod), daemon=True).start()
            done = pod.execute(*hook["command"], *hook["args"])
            assert done.returncode == 0, done.stderr
            assert done.stdout == f"200 http://{name}:{port}/readyz\n"
            pod.stop()


def _forward(listener: socket.socket, pod: Running) -> None:
    """Answer one request with the pod's answer, as the Service does."""
    client, _ = listener.accept()
    with client:
        path = client.recv(4096).split()[1].decode()
        status, body = pod.request("GET", 8080, path)
        client.sendall(b"HTTP/1.1 %d x\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))


def test_the_kubelet_of_these_tests_refuses_what_a_kubelet_refuses(scene: Scenes, tmp_path: Path) -> None:
    """A Secret without the key of the values keeps the pod from starting."""
    with scene("minimal") as it:
        del it.secrets["master.key"]
        with (
            pytest.raises(KeyError, match=r"master\.key"),
            running(cluster_of(MINIMAL, it, tmp_path), it.world),
        ):
            pass
