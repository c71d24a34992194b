"""Containers of the image, run by runc with what a container engine gives them: namespaces, mounts, user, capabilities, a network."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.deploy.described import Described
from tests.image.building import Image

OUTSIDE, INSIDE = "203.0.113.1", "203.0.113.2"
"""Addresses of the two ends of the container's network (TEST-NET-3)."""
_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)


class Network:
    """The network namespace of containers, and one outside that a cable joins to it: what `docker run -p` leads to.

    The network of the machine is left as it is: its addresses may be the same.
    """

    def __init__(self) -> None:
        self.name, self._outside = f"image{os.getpid()}", f"outside{os.getpid()}"
        self.path = Path("/run/netns") / self.name
        for name in (self.name, self._outside):
            _run("ip", "netns", "add", name)
        _run("ip", "-n", self._outside, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self.name)
        for name, address in ((self._outside, OUTSIDE), (self.name, INSIDE)):
            for words in (
                ("addr", "add", f"{address}/30", "dev", "eth0"),
                ("link", "set", "eth0", "up"),
                ("link", "set", "lo", "up"),
            ):
                _run("ip", "-n", name, *words)

    def close(self) -> None:
        for name in (self.name, self._outside):
            _run("ip", "netns", "del", name)

    def inside(self) -> contextlib.AbstractContextManager[None]:
        """Let this thread, and threads it starts, listen and connect beside the containers."""
        return _in_namespace(self.path)

    def outside(self) -> contextlib.AbstractContextManager[None]:
        """Let this thread connect from outside."""
        return _in_namespace(self.path.with_name(self._outside))


@contextlib.contextmanager
def _in_namespace(path: Path) -> Iterator[None]:
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(path, os.O_RDONLY)
    try:
        assert _LIBC.setns(there, _NEWNET) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        assert _LIBC.setns(own, _NEWNET) == 0, os.strerror(ctypes.get_errno())
        os.close(there)
        os.close(own)


class Container:
    """One container. ``mounts``: source by target; ``env`` beside the image's; the command is the image's, unless given."""

    def __init__(self, image: Image, network: Network, folder: Path) -> None:
        self._image, self._network = image, network
        self.folder = folder
        self.id = f"image-{os.getpid()}-{next(_numbers)}"
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, described: Described, mounts: Mapping[str, Path], env: Mapping[str, str]) -> None:
        """Start the container as ``described``, with ``mounts`` in place of its volumes and files and ``env`` for what it leaves open."""
        config = self._image.config
        named = {name: value if value is not None else env[name] for name, value in described.env.items()}
        arguments = [*config["Entrypoint"], *(described.command or config["Cmd"])]
        self._write(arguments, {**self._image.env, **named, **env}, described, mounts)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(["runc", "run", "--bundle", str(self.folder), self.id], stdout=log, stderr=log)

    def _write(self, arguments: list[str], env: Mapping[str, str], described: Described, mounts: Mapping[str, Path]) -> None:
        user, group = (int(number) for number in self._image.config["User"].split(":"))
        assert "ALL" in described.cap_drop
        assert "no-new-privileges:true" in described.security
        process = {
            "user": {"uid": user, "gid": group},
            "args": arguments,
            "env": [f"{name}={value}" for name, value in env.items()],
            "cwd": self._image.config["WorkingDir"],
            "capabilities": {name: [] for name in ("bounding", "effective", "permitted", "inheritable", "ambient")},
            "noNewPrivileges": True,
        }
        bound = [
            {
                "destination": target,
                "type": "bind",
                "source": str(source),
                "options": ["rbind", *(["ro"] if target in described.read_only_mounts else [])],
            }
            for target, source in sorted(mounts.items())
        ]
        spec = {
            "ociVersion": "1.0.2",
            "process": process,
            "root": {"path": str(self._image.root), "readonly": described.read_only},
            "hostname": "reconciler",
            "mounts": [*_SYSTEM, *(_tmpfs(target, "mode=1777") for target in described.tmpfs), *bound],
            "linux": {
                "namespaces": [
                    *({"type": kind} for kind in ("pid", "ipc", "uts", "mount")),
                    {"type": "network", "path": str(self._network.path)},
                ],
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            },
        }
        (self.folder / "config.json").write_text(json.dumps(spec))

    def exec(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as the engine runs a HEALTHCHECK."""
        return subprocess.run(["runc", "exec", self.id, *command], capture_output=True, text=True, check=False, timeout=60)

    def stop(self, signal_name: str = "SIGTERM") -> tuple[int, float]:
        """Send the signal of the image to its first process; return the exit code and how long it took, in seconds."""
        assert self.process is not None
        started = time.monotonic()
        _run("runc", "kill", self.id, signal_name.removeprefix("SIG"))
        return self.process.wait(60), time.monotonic() - started

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(30)
        subprocess.run(["runc", "delete", "--force", self.id], capture_output=True, check=False)

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""


def _tmpfs(target: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", *options]}


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def installed() -> list[str]:
    """Programs that these tests need and the machine lacks."""
    return [name for name in ("buildah", "mmdebstrap", "runc", "ip") if shutil.which(name) is None]


_SYSTEM: list[dict[str, Any]] = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
    {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
]
