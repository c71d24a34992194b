"""Clocks that are wrong: a host's that is ahead or behind, one that is turned, providers whose time is not known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.stage_world import StageWorld

pytestmark = pytest.mark.fault

SITE = """
import os, time
_real = time.time
_file = os.environ.get("TURNED_CLOCK")
if _file:
    def _turned():
        try:
            with open(_file) as stream:
                return _real() + float(stream.read() or 0)
        except (OSError, ValueError):
            return _real()
    time.time = _turned
"""
GIT = "executor: {type: github, integration: {name: github}, resource: {type: repository, name: web}, spec: {workflow: ci.yml, ref: main}}"
SEM = "executor: {type: semaphore, integration: {name: semaphore}, resource: {type: project, name: web}, spec: {ref: refs/heads/main}}"
BUD = "executor: {type: buddy, integration: {name: buddy}, resource: {type: pipeline, name: deploy}, spec: {workspace: acme, project: web}}"
STAGES = {"git": GIT, "sem": SEM, "bud": BUD}
STARTS = {"github": "/dispatches$", "semaphore": "/plumber-workflows$", "buddy": "/executions$"}


class ClockShiftStore(StageWorld):
    """A world in which the clock of the program's host is off by what stands in a file."""

    def __init__(self, folder: Path, providers: tuple[str, ...] = ("github",)) -> None:
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(SITE)
        self.turned = folder / "turned"
        self.turn(0)
        super().__init__(folder, providers)

    def turn(self, seconds: float) -> None:
        self.turned.with_suffix(".new").write_text(str(seconds))
        self.turned.with_suffix(".new").replace(self.turned)

    @property
    def env(self) -> dict[str, str]:
        return super().env | {"PYTHONPATH": str(self.folder / "site"), "TURNED_CLOCK": str(self.turned)}

    def runs_there(self) -> list[int]:
        """Return how many runs each provider has."""
        executions = self.buddy.state()["workspaces"]["acme"].get("executions", [])
        return [len(self.runs()), len(self.semaphore.state()["workflows"]), len(executions)]

    def lose_starts(self, *, commit: bool) -> None:
        """Let each provider lose the answer to the next start, or the start itself."""
        for name, path in STARTS.items():
            self.servers[name].admin.fault(method="POST", path=path, effect="reset", commit=commit, times=1)

    def end_in_order(self) -> None:
        for stage in STAGES:
            assert [(one["result"], one["reason"]) for one in self.finished(stage)] == [("passed", "ok")]
        assert self.runs_there() == [1, 1, 1]


@pytest.fixture
def turned(tmp_path: Path) -> Iterator[ClockShiftStore]:
    made = ClockShiftStore(tmp_path, ("github", "semaphore", "buddy"))
    made.manual()
    for name, executor in STAGES.items():
        made.stage(name, executor)
    yield made
    made.close()


@pytest.mark.parametrize("seconds", [150, -150, 7200, -7200])
def test_n5_a_wrong_host_clock_starts_no_second_run_when_the_answer_is_lost(turned: ClockShiftStore, seconds: int) -> None:
    turned.turn(seconds)
    turned.lose_starts(commit=True)
    turned.ready()
    turned.trigger()
    turned.end_in_order()


@pytest.mark.parametrize(("before", "after"), [(150, 150), (7200, 0), (-7200, 0)])
def test_n5_a_kill_after_the_start_makes_no_second_run_even_if_the_clock_is_set_right_then(
    turned: ClockShiftStore, before: int, after: int
) -> None:
    turned.turn(before)
    process = turned.doomed("execution-after-start:3")
    turned.up()
    turned.trigger()
    turned.died(process, "execution-after-start")
    turned.turn(after)
    turned.daemon()
    turned.end_in_order()


@pytest.mark.parametrize("seconds", [150, -150])
def test_n5_a_start_that_was_lost_itself_is_made_again_where_the_offset_is_known_and_small(
    turned: ClockShiftStore, seconds: int
) -> None:
    turned.turn(seconds)
    turned.lose_starts(commit=False)
    turned.ready()
    turned.trigger()
    turned.end_in_order()


@pytest.mark.parametrize("case", ["unknown", "far"])
def test_n5_where_the_providers_time_is_unknown_or_far_nothing_is_started_again(turned: ClockShiftStore, case: str) -> None:
    if case == "unknown":
        for server in turned.servers.values():
            server.admin.settings(date_header=False)
    else:
        turned.turn(7200)
    turned.lose_starts(commit=False)
    turned.ready()
    turned.trigger()
    turned.wait(lambda: len([one for one in turned.executions() if "RC5052" in one["message"]]) == 3, "all say why they wait")
    assert turned.runs_there() == [0, 0, 0]
    assert {one["state"] for one in turned.executions()} == {"starting"}
    doctor = turned.cli("doctor")
    assert doctor.returncode == (1 if case == "far" else 0), doctor.stdout
    for name in STARTS:
        assert f"clock {name}" in doctor.stdout
    assert ("7200 s ahead of" if case == "far" else "no Date header") in doctor.stdout.replace("7199", "7200")
