"""Providers are known by their records: no table of providers outside them, and no driver is imported to read one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.drivers.registry import DRIVERS
from reconciler.drivers.specs import SPECS
from reconciler.manifests import schema

ROOT = Path(__file__).parents[2] / "reconciler"
OUTSIDE = [
    path for path in sorted(ROOT.rglob("*.py")) if not re.match(r"(drivers|sandbox|cli/demo)/", str(path.relative_to(ROOT)))
]
WORD = re.compile(
    "|".join(sorted({*SPECS, *(s.replace("_", "") for spec in SPECS.values() for s in spec.spellings)})), re.IGNORECASE
)
"""Names of providers, also inside of other words."""
NOT_A_PROVIDER = re.compile(
    r"asyncio\.Semaphore"  # a class of the standard library
    r"|https://(?:git-lfs\.)?github\.com/(?:spec|google)/\S*"  # addresses of specifications
    r"|BuddyIntegration"  # the kind, where a text of the documentation names it
    r"|github[_-]?app\b|github[-_]?commit[-_]?status",  # fields and values of manifests
    re.IGNORECASE,
)
ONLY_CHECKED = {"gitlab", "spinnaker"}
"""Providers whose manifests are validated in full, and of which this version only checks the credential."""
ALLOWED = {
    "model/resources.py": "the member of Kind for the kind BuddyIntegration, which is part of the manifests' interface",
    "manifests/secret_spec.py": "the Secret's provider of this name, which is part of the manifests' interface",
    "notifications/sinks/teams.py": "hosts of Power Automate, where the URLs of its Workflows are",
    "model/codes.py": "examples in the reference of error codes",
    "cli/guide.py": "examples of commands",
    "cli/init.py": "the starter repository is for one provider, and its files say so",
    "cli/sink.py": "GITHUB_ACTIONS tells in which environment the command runs",
    "cli/plan.py": "the output format `-o github` (workflow commands)",
    "cli/validate.py": "the output format `-o github` (workflow commands)",
    "cli/verbs.py": "the output format `-o github` (workflow commands)",
}


def named(path: Path) -> list[str]:
    text = NOT_A_PROVIDER.sub("", path.read_text())
    return [line.strip() for line in text.splitlines() if WORD.search(line)]


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_provider_is_named_in_its_own_folder_only(path: Path) -> None:
    relative = str(path.relative_to(ROOT))
    assert bool(named(path)) == (relative in ALLOWED), named(path)


def test_the_search_finds_what_it_is_for(tmp_path: Path) -> None:
    assert {"github", "aws", "dockerhub"} <= set(SPECS)
    (tmp_path / "x.py").write_text('x = {"github": 1}\n# GitLab\n_GITHUB = asyncio.Semaphore(2)\nasyncio.Semaphore(2)\n')
    assert len(named(tmp_path / "x.py")) == 3
    assert len(OUTSIDE) > 150


def test_manifests_are_validated_without_loading_a_driver() -> None:
    code = (
        "import sys, reconciler.manifests.load, reconciler.planning.render\n"
        "loaded = [m for m in sys.modules if m.startswith('reconciler.drivers.')]\n"
        "assert not [m for m in loaded if m.endswith(('.driver', '.registry')) or '.http' in m], loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("kind", "key"), [("Integration", "type"), ("EventSource", "type"), ("Stage", "executor")])
def test_the_schemas_name_the_providers_of_the_records(kind: str, key: str) -> None:
    node = schema.schema(kind)["properties"]["spec"]["properties"][key]
    names = node["enum"] if "enum" in node else node["properties"]["type"]["enum"]
    expected = {n for n, spec in SPECS.items() if spec.executor or kind != "Stage"}
    short = {name for name in names if name.islower()} - {"webhook", "schedule", "scheduled", "manual", "http", "noop"}
    assert short == expected
    if kind == "Integration":
        assert set(names) - short == {s for spec in SPECS.values() for s in spec.spellings}


def test_a_driver_has_the_name_hosts_and_limits_of_its_record() -> None:
    for name, driver in DRIVERS.items():
        if name in SPECS:
            spec = SPECS[name]
            assert (driver.provider, driver.hosts, driver.limits) == (spec.name, spec.hosts, spec.limits)
            if name not in ONLY_CHECKED:
                assert bool(spec.sources) == (driver.receiver is not None)
                assert bool(spec.executor) == bool(driver.executors)
            assert spec.takes_statuses == (driver.reporter is not None)
            assert all(rule.type in driver.types for rule in spec.export)
