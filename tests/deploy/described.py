"""What `docker run` lines and Compose services say about a container: environment, mounts, ports and restrictions."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.docs import pages as md
from tests.docs.pages import ROOT

FLAGS = {"--detach", "--read-only", "--init", "--rm", "-it"}
VALUED = {"--name", "--tmpfs", "-p", "-v", "-e", "--cap-drop", "--security-opt", "--restart", "--stop-timeout"}


@dataclass
class Described:
    """A container as its author describes it. ``mounts``: source by target; a source without a slash is a volume."""

    image: str = ""
    command: list[str] = field(default_factory=list)
    env: dict[str, str | None] = field(default_factory=dict)
    mounts: dict[str, str] = field(default_factory=dict)
    read_only_mounts: set[str] = field(default_factory=set)
    ports: list[str] = field(default_factory=list)
    tmpfs: list[str] = field(default_factory=list)
    read_only: bool = False
    init: bool = False
    cap_drop: list[str] = field(default_factory=list)
    security: list[str] = field(default_factory=list)
    grace_s: int = 10


def of_run_line(line: str) -> Described:
    """Read a `docker run` command; raises `AssertionError` for an option that this reader does not know."""
    words = shlex.split(line)
    assert words[:2] == ["docker", "run"], line
    out = Described()
    index = 2
    while index < len(words) and words[index].startswith("-"):
        option = words[index]
        assert option in FLAGS | VALUED, f"{option} in: {line}"
        if option in FLAGS:
            out.read_only |= option == "--read-only"
            out.init |= option == "--init"
            index += 1
            continue
        _take(out, option, words[index + 1])
        index += 2
    out.image, out.command = words[index], words[index + 1 :]
    return out


def _take(out: Described, option: str, value: str) -> None:
    if option == "-e":
        name, given, text = value.partition("=")
        out.env[name] = text if given else None
    elif option == "-v":
        source, target, *mode = value.split(":")
        out.mounts[target] = source
        if mode == ["ro"]:
            out.read_only_mounts.add(target)
    elif option == "-p":
        out.ports.append(value)
    elif option == "--tmpfs":
        out.tmpfs.append(value)
    elif option == "--cap-drop":
        out.cap_drop.append(value)
    elif option == "--security-opt":
        out.security.append(value)
    elif option == "--stop-timeout":
        out.grace_s = int(value)


def run_lines() -> list[tuple[str, str]]:
    """Every `docker run` line of the pages: name of the page, and the command in one line."""
    out = []
    for page in md.pages():
        for block in md.blocks(page.read_text(encoding="utf-8")):
            for line in block.text.replace("\\\n", " ").splitlines():
                command = line.removeprefix("$ ")
                if command.startswith("docker run"):
                    out.append((md.name_of(page), command))
    return out


def compose_file() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text(encoding="utf-8"))
    return loaded


def of_compose() -> Described:
    """The service of deploy/compose.yaml; secrets are read-only files, as Compose mounts them."""
    service = compose_file()["services"]["reconciler"]
    out = Described(
        image=service.get("image", ""),
        env=dict(service["environment"]),
        ports=list(service["ports"]),
        tmpfs=list(service["tmpfs"]),
        read_only=service["read_only"],
        init=service["init"],
        cap_drop=list(service["cap_drop"]),
        security=list(service["security_opt"]),
        grace_s=int(str(service["stop_grace_period"]).removesuffix("s")),
    )
    for secret in service["secrets"]:
        out.mounts[secret["target"]] = compose_file()["secrets"][secret["source"]]["file"]
        out.read_only_mounts.add(secret["target"])
    for volume in service["volumes"]:
        source, target = volume.split(":")
        out.mounts[target] = source
    return out


@dataclass(frozen=True)
class Instructions:
    """The last stage of the Dockerfile."""

    env: dict[str, str]
    ports: list[str]
    volumes: list[str]
    user: str
    stop_signal: str
    healthcheck: list[str]
    command: list[str]


def instructions() -> Instructions:
    stage = (ROOT / "Dockerfile").read_text(encoding="utf-8").rpartition("\nFROM ")[2]
    lines = [line for line in re.sub(r"\\\n\s*", " ", stage).splitlines() if not line.startswith("#")]
    rest = {word: [line.removeprefix(f"{word} ") for line in lines if line.startswith(f"{word} ")] for word in _WORDS}
    return Instructions(
        env=dict(part.split("=", 1) for line in rest["ENV"] for part in shlex.split(line)),
        ports=rest["EXPOSE"],
        volumes=rest["VOLUME"],
        user=rest["USER"][-1],
        stop_signal=rest["STOPSIGNAL"][-1],
        healthcheck=json.loads(rest["HEALTHCHECK"][-1].partition("CMD ")[2]),
        command=[*json.loads(rest["ENTRYPOINT"][-1]), *json.loads(rest["CMD"][-1])],
    )


_WORDS = ("ENV", "EXPOSE", "VOLUME", "USER", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD")
