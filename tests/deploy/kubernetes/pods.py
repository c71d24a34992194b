"""A kubelet for tests: it starts the container of a rendered pod with exactly its command, environment, files and addresses.

What it takes from the rendered objects: command and arguments, environment, ConfigMaps, Secrets, volumes with their owners and modes,
user and groups, read-only root, ports, probes, and the grace period. What it takes from the Dockerfile: ENTRYPOINT, ENV, WORKDIR.
The image's files are those of this checkout; what lies outside of the pod is reached through `World`.

As root, the container has the pod's uid. Another user gets a user namespace, in which his own uid is root: then the owners of the
files differ from those in a pod.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.deploy.kubernetes.world import World

ROOT = Path(__file__).resolve().parents[3]
AS_ROOT = os.geteuid() == 0
POD_ADDRESS = "10.244.1.17"
OPENSHIFT_ID = 1_000_670_000
"""User and group that the constraint `restricted-v2` of OpenShift gives to a pod that names none; its primary group is 0."""
BASE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Image:
    """What the last stage of the Dockerfile gives to each container."""

    entrypoint: tuple[str, ...]
    env: Mapping[str, str]
    workdir: str

    @property
    def environment(self) -> str:
        """Folder of the Python environment: the first part of PATH is its ``bin``."""
        return str(Path(self.env["PATH"].partition(":")[0]).parent)


def image() -> Image:
    """Read the Dockerfile."""
    stage = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2].replace("\\\n", " ")
    lines = [line.partition(" ")[::2] for line in stage.splitlines()]
    env = {"PATH": BASE_PATH}
    for part in (part for verb, rest in lines if verb == "ENV" for part in shlex.split(rest)):
        name, _, value = part.partition("=")
        env[name] = value.replace("${PATH}", env["PATH"]).replace("$PATH", env["PATH"])
    entrypoint = next(rest for verb, rest in lines if verb == "ENTRYPOINT")
    return Image(tuple(json.loads(entrypoint)), env, next(rest for verb, rest in lines if verb == "WORKDIR"))


@dataclass(slots=True)
class Cluster:
    """Objects of a namespace as the API server would keep them, and the content of Secrets that the chart does not create."""

    objects: list[Object]
    secrets: Mapping[str, str]
    """Content by the key of a Secret or ConfigMap that exists already."""
    folder: Path
    volumes: dict[str, Path] = field(default_factory=dict)
    """Persistent volumes by claim: they outlive the pods."""

    def find(self, kind: str) -> Object:
        return next(item for item in self.objects if item["kind"] == kind)

    def content(self, kind: str, name: str, key: str) -> str:
        """Return the value of a key; raises `KeyError` where the kubelet could not start the container."""
        for item in self.objects:
            if item["kind"].lower() == kind.lower() and item["metadata"]["name"] == name:
                return str({**item.get("data", {}), **item.get("stringData", {})}[key])
        return self.secrets[key]

    def keys(self, kind: str, name: str) -> list[str]:
        for item in self.objects:
            if item["kind"].lower() == kind.lower() and item["metadata"]["name"] == name:
                return sorted({**item.get("data", {}), **item.get("stringData", {})})
        return ["github-token"]

    def pod(self) -> Object:
        spec: Object = self.find("Deployment")["spec"]["template"]["spec"]
        return spec


def environment(cluster: Cluster, container: Object) -> dict[str, str]:
    """Return the environment of a container, with ``$(NAME)`` expanded as the kubelet does."""
    env: dict[str, str] = {}
    for entry in container.get("env", []):
        if "valueFrom" in entry:
            ((source, reference),) = entry["valueFrom"].items()
            if source == "fieldRef":
                env[entry["name"]] = {"status.hostIP": "192.0.2.7", "status.podIP": POD_ADDRESS}[reference["fieldPath"]]
                continue
            kind = {"secretKeyRef": "Secret", "configMapKeyRef": "ConfigMap"}[source]
            env[entry["name"]] = cluster.content(kind, reference["name"], reference["key"])
        else:
            text = re.sub(r"\$\((\w+)\)", lambda match: env.get(match[1], match[0]), entry.get("value", ""))
            env[entry["name"]] = text
    return env


class Volumes:
    """Folders on the host with the owners and modes that the kubelet gives to the volumes of a pod with ``fsGroup``."""

    def __init__(self, cluster: Cluster, pod: Object, folder: Path) -> None:
        self._cluster, self._folder = cluster, folder
        self._policy = pod["securityContext"].get("fsGroupChangePolicy", "Always")
        self._groups = _groups_of(pod["securityContext"])
        self._group = (self._groups or [0])[0] if AS_ROOT else -1
        self.paths = {volume["name"]: self._make(volume) for volume in pod["volumes"]}

    def _make(self, volume: Object) -> Path:
        path = self._folder / volume["name"]
        if "persistentVolumeClaim" in volume:
            return self._claim(volume["persistentVolumeClaim"]["claimName"])
        path.mkdir(parents=True)
        if "emptyDir" in volume:
            self._own(path, 0o2777)
        elif "configMap" in volume:
            source = volume["configMap"]
            items = {key: key for key in self._cluster.keys("ConfigMap", source["name"])}
            items = {item["key"]: item["path"] for item in source.get("items", [])} or items
            files = {path: self._cluster.content("ConfigMap", source["name"], key) for key, path in items.items()}
            self._project(path, files, source.get("defaultMode", 0o644))
        elif "secret" in volume:
            source = volume["secret"]
            items = {key: key for key in self._cluster.keys("Secret", source["secretName"])}
            items = {item["key"]: item["path"] for item in source.get("items", [])} or items
            files = {path: self._cluster.content("Secret", source["secretName"], key) for key, path in items.items()}
            self._project(path, files, source.get("defaultMode", 0o644))
        elif "projected" in volume:
            self._project(path, self._projected(volume["projected"]), volume["projected"].get("defaultMode", 0o644))
        else:
            raise AssertionError(f"this volume cannot be made here: {volume}")
        return path

    def _projected(self, projected: Object) -> dict[str, str]:
        files: dict[str, str] = {}
        for (kind, source), *_ in (item.items() for item in projected["sources"]):
            if kind == "serviceAccountToken":
                files[source["path"]] = "header.claims.signature"
                continue
            items = source.get("items") or [{"key": key, "path": key} for key in self._cluster.keys(kind, source["name"])]
            for item in items:
                assert item["path"] not in files, f"two files {item['path']} in a projected volume"
                files[item["path"]] = self._cluster.content(kind, source["name"], item["key"])
        return files

    def _project(self, path: Path, files: Mapping[str, str], mode: int) -> None:
        """Write files as the kubelet does: links into ``..data``, which is a link to a folder that is replaced as a whole."""
        data = path / "..2026_11_27_09_00_00.1"
        self._own(path, 0o3777)
        for name, text in files.items():
            file = data / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            self._own(file, (mode | 0o440) if AS_ROOT else mode & 0o700)
        for folder in [data, *(item for item in data.rglob("*") if item.is_dir())]:
            self._own(folder, 0o2755)
        (path / "..data").symlink_to(data.name)
        for name in {name.partition("/")[0] for name in files}:
            (path / name).symlink_to(f"..data/{name}")

    def _claim(self, name: str) -> Path:
        """Return a volume with a fresh ext4. It is walked at every start, unless the policy is ``OnRootMismatch``."""
        path = self._cluster.folder / "volumes" / name
        if name not in self._cluster.volumes:
            self._cluster.volumes[name] = path
            (path / "lost+found").mkdir(parents=True)
            self._own(path / "lost+found", 0o2770 if self._groups else 0o700)
            self._own(path, 0o2775 if self._groups else 0o755)
        elif self._groups and self._policy != "OnRootMismatch":
            for item in path.rglob("*"):
                wider = 0o2770 if item.is_dir() else 0o660
                os.chown(item, -1, self._group)
                item.chmod(item.stat().st_mode | wider)
        return path

    def _own(self, path: Path, mode: int) -> None:
        if AS_ROOT:
            os.chown(path, 0, self._group)
        path.chmod(mode)


@dataclass(slots=True)
class Running:
    """A container that was started."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    container: Object
    log: Path
    grace_s: float
    address: str
    """Address of the pod, at which the kubelet and the Service reach it."""
    env: Mapping[str, str]

    @property
    def pid(self) -> int:
        """Pid of the program, outside of its namespace: the only child of `unshare`."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(path.read_text().split()[0])

    def connect(self, host: str, port: int) -> socket.socket:
        """Connect inside of the pod's network."""
        self.channel.send(f"{host}:{port}".encode())
        answer, descriptors, *_ = socket.recv_fds(self.channel, 256, 1)
        if not descriptors:
            raise ConnectionRefusedError(answer.decode())
        return socket.socket(fileno=descriptors[0])

    def request(
        self, method: str, port: int, path: str, *, body: bytes | None = None, timeout_s: float = 10
    ) -> tuple[int, bytes]:
        """Send a request to the pod's address, as the kubelet and the Service do."""
        connection = http.client.HTTPConnection("pod", port)
        connection.sock = self.connect(self.address, port)
        connection.sock.settimeout(timeout_s)
        with contextlib.closing(connection):
            connection.request(method, path, body=body)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def probe(self, name: str) -> bool:
        """Run a probe once, exactly as it is rendered."""
        call = self.container[name]["httpGet"]
        ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        try:
            timeout_s = self.container[name].get("timeoutSeconds", 1)
            status, _ = self.request("GET", ports.get(call["port"], call["port"]), call["path"], timeout_s=timeout_s)
        except OSError:
            return False
        return 200 <= status < 400

    def wait_for(self, probe: str, timeout_s: float = 60.0) -> None:
        """Wait until a probe succeeds; fails with the log if the container ends."""
        self.until(lambda: self.probe(probe), probe, timeout_s)

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, f"the container ended with {self.process.returncode}:\n{self.text}"
            assert time.monotonic() < end, f"{what}: not after {timeout_s} s\n{self.text}"
            time.sleep(0.05)

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")[-6000:]

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside the program, as `kubectl exec` does. Only root can enter the namespaces of the container."""
        process = f"/proc/{self.pid}"
        status = dict(line.split(":", 1) for line in Path(f"{process}/status").read_text().splitlines())
        user, group = status["Uid"].split()[0], status["Gid"].split()[0]
        enter = ["nsenter", "-t", str(self.pid), "-m", "-p", "-n", "-u", f"--root={process}/root", f"--wd={process}/cwd"]
        become = ["setpriv", "--reuid", user, "--regid", group, "--groups", ",".join(status["Groups"].split())]
        env = ["env", "-i", *(f"{name}={value}" for name, value in self.env.items())]
        return subprocess.run([*enter, *env, *become, *command], capture_output=True, text=True, timeout=60, check=False)

    def stop(self) -> tuple[int, float]:
        """Ask the program to end, and return its exit code and the seconds it took. Fails at the end of the grace period."""
        began = time.monotonic()
        os.kill(self.pid, signal.SIGTERM)
        try:
            return self.process.wait(self.grace_s), time.monotonic() - began
        except subprocess.TimeoutExpired:
            raise AssertionError(f"killed after {self.grace_s} s\n{self.text}") from None


@contextlib.contextmanager
def running(cluster: Cluster, world: World) -> Iterator[Running]:
    """Start the first container of the cluster's Deployment, and kill what is left of it afterwards."""
    pod, folder = cluster.pod(), Path(tempfile.mkdtemp(prefix="pod-", dir=cluster.folder))
    container = pod["containers"][0]
    spec = _specification(cluster, world, pod, folder)
    (folder / "spec.json").write_text(json.dumps(spec))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    namespaces = [
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--net",
        "--uts",
        *([] if AS_ROOT else ["--user", "--map-root-user"]),
    ]
    program = [sys.executable, str(Path(__file__).with_name("container.py")), str(folder / "spec.json"), str(theirs.fileno())]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(["unshare", *namespaces, *program], stdout=log, stderr=log, pass_fds=[theirs.fileno()]) as process,
        ours,
    ):
        theirs.close()
        grace_s = pod["terminationGracePeriodSeconds"] - _pre_stop_s(container)
        address = "::1" if spec["env"]["RECONCILER_SERVER_LISTEN"].startswith("[") else POD_ADDRESS
        started = Running(process, ours, container, folder / "log", grace_s, address, spec["env"])
        try:
            ours.settimeout(30)
            message, descriptors, *_ = socket.recv_fds(ours, 64, 64)
            assert message, f"the container could not be made:\n{started.text}"
            with world.serving([socket.socket(fileno=number) for number in descriptors]):
                yield started
        finally:
            with contextlib.suppress(OSError, IndexError):  # it has ended
                os.kill(started.pid, signal.SIGKILL)  # a change of the user clears what --kill-child asked for
            process.kill()


def _groups_of(security: Object) -> list[int]:
    """Return the group of the volumes, if the pod has one. OpenShift chooses one only for a pod without a user."""
    if "fsGroup" in security:
        return [int(security["fsGroup"])]
    return [] if "runAsUser" in security else [OPENSHIFT_ID]


def _pre_stop_s(container: Object) -> int:
    """Seconds of the hook, which counts against the grace period."""
    return int(container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0))


def _specification(cluster: Cluster, world: World, pod: Object, folder: Path) -> dict[str, Any]:
    """Return what `container.py` needs to know."""
    container, made = pod["containers"][0], image()
    security = {**pod["securityContext"], **container["securityContext"]}
    volumes = Volumes(cluster, pod, folder / "volumes")
    (folder / "root").mkdir()
    mounts = [
        {
            "source": str(volumes.paths[mount["name"]] / mount.get("subPath", "")),
            "target": mount["mountPath"],
            "readOnly": mount.get("readOnly", False),
        }
        for mount in container["volumeMounts"]
    ]
    aliases = {name: item["ip"] for item in pod.get("hostAliases", []) for name in item["hostnames"]}
    return {
        "root": str(folder / "root"),
        "programs": _programs(made),
        "files": world.files({**world.addresses, **aliases}),
        "mounts": sorted(mounts, key=lambda item: item["target"].count("/")),
        "readOnlyRoot": security.get("readOnlyRootFilesystem", False),
        "hostname": f"{cluster.find('Deployment')['metadata']['name'][:40]}-7d9f6c5b8-x2x4q",
        "addresses": [POD_ADDRESS, *world.addresses.values()],
        "listeners": world.listeners,
        "argv": [*container.get("command", made.entrypoint), *container.get("args", [])],
        "env": {**made.env, "HOSTNAME": "pod", "HOME": "/", **environment(cluster, container)},
        "cwd": container.get("workingDir", made.workdir),
        "uid": security.get("runAsUser", OPENSHIFT_ID) if AS_ROOT else 0,
        "gid": security.get("runAsGroup", 0),
        "groups": _groups_of(pod["securityContext"]),
    }


def _programs(made: Image) -> dict[str, str]:
    """Return what the image would contain: the host's programs, this checkout, and its environment in the image's place."""
    system = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/alternatives"]
    own = [str(ROOT), sys.prefix, sys.base_prefix]
    return {**{path: path for path in [*system, *own] if not path.startswith("/usr/")}, made.environment: sys.prefix}
