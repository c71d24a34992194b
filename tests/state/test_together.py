"""Several processes on one state: they start at once, ask for the same lease, and none of them is hurt."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from reconciler.state import Fence, Store

OPEN = """
import sys
from pathlib import Path
import alembic.script  # noqa: F401  - so that the others start within the same few milliseconds
from reconciler.state import Store
print("ready", flush=True)
sys.stdin.readline()
store = Store.open(sys.argv[1], state_dir=Path(sys.argv[2]))
print(store.get_meta("incarnation"))
store.close()
"""


def opened_together(url: str, folder: Path, count: int) -> list[str]:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, url, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(count)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return [process.communicate(timeout=60)[0].strip() for process in processes]


def test_processes_that_open_a_new_state_at_once_agree_on_one(url: str, tmp_path: Path) -> None:
    answers = opened_together(url, tmp_path, 4)
    assert len(set(answers)) == 1, answers
    assert len(answers[0]) == 16, answers


def test_threads_that_open_a_new_state_at_once_agree_on_one(url: str, tmp_path: Path) -> None:
    def work(_number: int) -> str | None:
        store = Store.open(url, state_dir=tmp_path)
        try:
            return store.get_meta("incarnation")
        finally:
            store.close()

    answers = at_once(4, work)
    assert len(set(answers)) == 1, answers


def test_threads_may_open_different_new_states_at_once(tmp_path: Path) -> None:
    def work(number: int) -> str | None:
        folder = tmp_path / str(number)
        store = Store.open(f"sqlite:///{folder / 'state.db'}", state_dir=folder)
        try:
            return store.get_meta("incarnation")
        finally:
            store.close()

    assert len(set(at_once(6, work))) == 6


def test_a14_a_lease_that_was_never_there_has_one_holder_however_many_ask_first(store: Store) -> None:
    for turn in range(15):
        answers = at_once(4, lambda number, name=f"lease-{turn}": store.acquire_lease(name, f"process-{number}", 60.0))
        assert [one for one in answers if one is not None] == [Fence(f"lease-{turn}", 1)]


def test_a14_a_lease_that_ran_out_has_one_new_holder_with_a_higher_number(store: Store) -> None:
    store.acquire_lease("lease", "gone", 0.0)
    answers = at_once(4, lambda number: store.acquire_lease("lease", f"process-{number}", 60.0))
    assert [one for one in answers if one is not None] == [Fence("lease", 2)]


def test_a_holder_keeps_its_number_and_one_that_gave_it_back_gets_another(store: Store) -> None:
    first = store.acquire_lease("lease", "one", 60.0)
    assert first == store.acquire_lease("lease", "one", 60.0) == Fence("lease", 1)
    store.release_lease(first)
    assert store.acquire_lease("lease", "two", 60.0) == Fence("lease", 2)
    store.release_lease(first)  # late, and no longer its own
    assert store.acquire_lease("lease", "three", 60.0) is None


def at_once(count: int, work) -> list:
    barrier, answers, errors = threading.Barrier(count), [], []

    def run(number: int) -> None:
        barrier.wait()
        try:
            answers.append(work(number))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    return answers


@pytest.fixture(autouse=True)
def _no_leftovers(tmp_path: Path):
    yield
    assert not list(tmp_path.glob("*.part"))
