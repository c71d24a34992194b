"""Build the image as a user does, from a clean checkout: only the public base image is replaced, by Debian's own packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler import __version__
from tests.docs.pages import ROOT

SLIM = ("doc", "info", "locale", "man")
"""Folders below /usr/share that Debian's slim images leave out."""
NO_USRMERGE = r'mkdir -p "$1/etc/apt/preferences.d"; printf "Package: usrmerge\nPin: release *\nPin-Priority: -1\n" > "$1/etc/apt/preferences.d/usrmerge"'
"""The base image has usr-is-merged; apt would choose the script of the same purpose, and Perl with it."""
CERTIFICATE = "/run/certificates.pem"


@dataclass(frozen=True)
class Image:
    """A built image, its files below ``root``, and its configuration as Docker reads it."""

    root: Path
    config: dict[str, Any]
    history: list[str]
    log: str

    @property
    def env(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.config["Env"])

    @property
    def healthcheck(self) -> list[str]:
        kind, *command = self.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return [str(word) for word in command]


class Builder:
    """Buildah with a store of its own below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._store = ["buildah", "--root", str(folder / "store"), "--runroot", str(folder / "runroot")]
        self._store += ["--storage-driver", self._driver()]

    def _driver(self) -> str:
        """The driver that copies no layers, where the file system allows it."""
        command = [*self._store, "--storage-driver", "overlay", "info"]
        return "vfs" if subprocess.run(command, capture_output=True, check=False).returncode else "overlay"

    def close(self) -> None:
        """Release the mounts of the store."""
        self.buildah("umount", "--all")

    def buildah(self, *arguments: str) -> str:
        env = {**os.environ, "BUILDAH_ISOLATION": "chroot", "TMPDIR": str(self.folder)}
        done = subprocess.run([*self._store, *arguments], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"buildah {arguments[0]}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def base(self, name: str) -> None:
        """Make the image ``name`` that the Dockerfile starts from: Debian's minimal system, as its slim image."""
        if name in self.buildah("images", "--format={{.Name}}:{{.Tag}}"):
            return
        packed = self.folder / "base.tar"
        hooks = ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", f"--setup-hook={NO_USRMERGE}"]
        slim = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in SLIM]
        clean = ['--customize-hook=rm "$1/etc/apt/preferences.d/usrmerge"', '--aptopt=APT::Install-Recommends "false"']
        command = ["mmdebstrap", "--quiet", "--variant=minbase", *hooks, *slim, *clean, "bookworm", str(packed)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        container = self.buildah("from", "scratch").strip()
        self.buildah("add", "--quiet", container, str(packed), "/")
        self.buildah("commit", "--quiet", "--rm", container, name)
        packed.unlink()

    def build(self, revision: str) -> Image:
        """Build the image from a checkout of ``revision``, and unpack it."""
        context = self.folder / "checkout"
        shutil.rmtree(context, ignore_errors=True)
        with subprocess.Popen(["git", "archive", revision], cwd=ROOT, stdout=subprocess.PIPE) as archive:
            assert archive.stdout is not None
            with tarfile.open(fileobj=archive.stdout, mode="r|") as content:
                content.extractall(context)
        arguments = [f"--build-arg=VERSION={__version__}", f"--build-arg=REVISION={revision}"]
        network = ["--pull-never", "--network=host", "--format=docker", *self._package_index()]
        log = self.buildah("bud", *network, *arguments, "--tag=reconciler", str(context))
        described = json.loads(self.buildah("inspect", "--type=image", "reconciler"))["Docker"]
        container = self.buildah("from", "--pull-never", "reconciler").strip()
        root = Path(self.buildah("mount", container).strip())
        return Image(root, described["config"], [row.get("created_by", "") for row in described["history"]], log)

    def _package_index(self) -> list[str]:
        """Let pip inside use the index and the certificates of pip outside."""
        lines = ["[global]"]
        volumes = []
        listed = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
        ).stdout
        pairs = [line.split("=", 1) for line in listed.splitlines()]
        known = {name.rpartition(".")[2]: value.strip("'") for name, value in pairs if name.startswith(("global.", ":env:"))}
        if "index-url" in known:
            lines.append(f"index-url = {known['index-url']}")
        if Path(known.get("cert", "")).is_file():
            lines.append(f"cert = {CERTIFICATE}")
            volumes.append(f"--volume={known['cert']}:{CERTIFICATE}:ro")
        file = self.folder / "pip.conf"
        file.write_text("\n".join(lines) + "\n")
        return [*volumes, f"--volume={file}:/etc/pip.conf:ro"]
