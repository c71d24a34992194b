"""Peers that a package has: octoDNS and PyGithub, in a virtual environment of their own (``benchmarks/.venv``), made on demand."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from benchmarks.local import MANY, NOWHERE
from benchmarks.provider import Running
from benchmarks.remote import Plan
from benchmarks.results import Row, seconds
from benchmarks.world import World, timed

VENV = Path(__file__).parent / ".venv"
PACKAGES = ("octodns", "PyGithub")
PYGITHUB = """
import sys
from github import Auth, Github
api = Github(auth=Auth.Token("canary-github-bench"), base_url=sys.argv[1], per_page=100)
for number in range(int(sys.argv[2])):
    assert len(list(api.get_repo(f"acme/r{number:05}").get_hooks())) == 1
"""
OCTODNS = """
providers:
  config: {class: octodns.provider.yaml.YamlProvider, directory: ./config, enforce_order: false}
  there: {class: octodns.provider.yaml.YamlProvider, directory: ./there}
zones:
  bench.example.: {sources: [config], targets: [there]}
"""


def compare(plan: Plan) -> Iterator[Row]:
    """Peers: octoDNS plans as many records, PyGithub looks at webhooks as its users do."""
    missing = _install()
    if missing:
        yield Row("peers", "skipped: the packages cannot be installed here", "", note=missing)
        return
    yield _octodns(plan)
    yield _pygithub(plan)


def _install() -> str:
    """Make the environment; return why not, if not."""
    if not (VENV / "ready").exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True, capture_output=True, timeout=120)
            pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
            subprocess.run(pip, check=True, capture_output=True, text=True, timeout=300)
        except (subprocess.SubprocessError, OSError) as error:
            return textwrap.shorten(str(getattr(error, "stderr", "") or error), 200)
        (VENV / "ready").touch()
    return ""


def _octodns(plan: Plan) -> Row:
    count = plan.count * MANY
    folder = plan.folder / "octodns"
    for name in ("config", "there"):
        (folder / name).mkdir(parents=True)
    (folder / "octodns.yaml").write_text(OCTODNS)
    records = "".join(f"r{n:05}:\n  ttl: 300\n  type: A\n  value: 10.{n >> 16}.{n >> 8 & 255}.{n & 255}\n" for n in range(count))
    (folder / "config" / "bench.example.yaml").write_text("---\n" + records)
    command = [str(VENV / "bin" / "octodns-sync"), "--config-file", "octodns.yaml"]
    theirs = statistics.median(timed(command, cwd=folder).wall for _ in range(plan.repeat))
    world = World(plan.folder / "ours", NOWHERE, count)
    snapshot = world.folder / "nothing.json"
    snapshot.write_text(json.dumps({"resources": []}))
    ours = statistics.median(world.cli("plan", "--snapshot", str(snapshot), "-o", "json").wall for _ in range(plan.repeat))
    what = f"plan {count}: octoDNS (one file of records) against ours (a manifest each, from Git)"
    return Row("G6", what, seconds(theirs), f"ours {seconds(ours)}", theirs / ours, 2, "×", at_least=True)


def _pygithub(plan: Plan) -> Row:
    few = max(plan.count // 50, 5)
    with Running() as provider:
        world = World(plan.folder / "pygithub", provider.url, plan.count)
        world.worker("pass")
        provider.do("settings", latency_s=0.05)
        command = [str(VENV / "bin" / "python"), "-c", PYGITHUB, provider.url, str(few)]
        theirs = timed(command, cwd=world.folder).wall / few
        ours = statistics.median(world.cli("run", "--once").wall for _ in range(plan.repeat)) / plan.count
    what = f"no-op at 50 ms, a webhook: PyGithub's defaults (of {few}) against ours (of {plan.count})"
    return Row(
        "G1",
        what,
        f"{theirs * 1000:.0f} ms",
        f"ours {ours * 1000:.1f} ms",
        theirs / ours,
        note="PyGithub sleeps 0.25 s between requests by default",
    )
