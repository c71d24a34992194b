"""A real Prometheus, and the rules of `deploy/prometheus` at the speed of a test.

`hastened` makes them so, and changes nothing else: an hour of a threshold (``* 3600``) lasts `HOUR_S`, a minute (``* 60``) `MINUTE_S`, every
range (``[1h]``) and every ``for`` a fixed time. Days (``* 86400``) and numbers that are no times stay. The alerts get the label ``pace``.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
RULES = ROOT / "deploy" / "prometheus" / "rules.yaml"
SCRAPE_S = 1


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the times of the rules last."""

    name: str
    hour_s: float
    minute_s: float
    range_s: int
    for_s: int


FAST = Pace("fast", hour_s=2.0, minute_s=0.2, range_s=40, for_s=1)
CALM = Pace("calm", hour_s=60.0, minute_s=1.0, range_s=60, for_s=5)
"""For a daemon that must cause no alert: fast enough to prove something, and slower than a busy machine."""


def binary(name: str) -> str:
    """Return the path of ``prometheus`` or ``promtool`` (Debian's package prometheus)."""
    path = shutil.which(name)
    assert path is not None, f"{name} is not installed: run tests/setup-debian.sh"
    return path


def alerts(text: str = "") -> dict[str, dict[str, Any]]:
    """Return the alerts of the rules by name."""
    groups = yaml.safe_load(text or RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def hastened(text: str, pace: Pace) -> str:
    """Return the rules ``text`` at ``pace``."""
    document = yaml.safe_load(text)
    seconds = {"3600": pace.hour_s, "60": pace.minute_s}
    for group in document["groups"]:
        group["name"] += f"-{pace.name}"
        for rule in group["rules"]:
            expr = re.sub(r"\[\d+[smhd]\]", f"[{pace.range_s}s]", rule["expr"])
            rule["expr"] = re.sub(r"\* (3600|60)\b", lambda found: f"* {seconds[found[1]]}", expr)
            rule["for"] = f"{pace.for_s}s"
            rule["labels"]["pace"] = pace.name
    return yaml.safe_dump(document)


class Prometheus:
    """Scrapes ``targets`` (job → address) every second and evaluates the rules at each pace. A context manager."""

    def __init__(self, folder: Path, targets: Mapping[str, str], paces: Iterable[Pace] = (FAST, CALM)) -> None:
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self._port = sock.getsockname()[1]
        files = []
        for pace in paces:
            (folder / f"rules-{pace.name}.yaml").write_text(hastened(RULES.read_text(), pace))
            files.append(f"rules-{pace.name}.yaml")
        jobs = [{"job_name": job, "static_configs": [{"targets": [address]}]} for job, address in targets.items()]
        every = f"{SCRAPE_S}s"
        config = {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": files,
            "scrape_configs": jobs,
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Prometheus:
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    binary("prometheus"),
                    f"--config.file={self._folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                    "--log.level=warn",
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while not self._is_ready():
            assert time.monotonic() < deadline, (self._folder / "prometheus.log").read_text()
            time.sleep(0.1)
        return self

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)

    def follow(self, count: int) -> None:
        """Wait until ``count`` targets were scraped twice. Prometheus begins five seconds after its start."""
        deadline = time.monotonic() + 30
        while len(self.query("count_over_time(up[1m]) >= 2 and up == 1")) < count:
            assert time.monotonic() < deadline, self.query("up")
            time.sleep(0.2)

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Return the result of an instant query."""
        body = urllib.parse.urlencode({"query": expr}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/api/v1/query", data=body)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return list(json.load(answer)["data"]["result"])

    def has_data(self, expr: str) -> bool:
        """Whether a query returns at least one number."""
        return any(row["value"][1] != "NaN" for row in self.query(expr))

    def fired(self, job: str, pace: Pace) -> set[str]:
        """Return the alerts of ``job`` that fire or fired; those without a job with job ``""``."""
        selector = f'ALERTS{{alertstate="firing",job="{job}",pace="{pace.name}"}}'
        return {row["metric"]["alertname"] for row in self.query(f"last_over_time({selector}[1h])")}

    def wait_for(self, job: str, names: Iterable[str], seconds: float) -> None:
        """Wait until each of ``names`` has fired for ``job``."""
        wanted, deadline = set(names), time.monotonic() + seconds
        while missing := wanted - self._fired_if_up(job):
            assert time.monotonic() < deadline, f"not fired for {job} within {seconds:g} s: {sorted(missing)}"
            time.sleep(0.3)

    def _fired_if_up(self, job: str) -> set[str]:
        try:
            return self.fired(job, FAST)
        except OSError:
            return set()
