"""What is wrong with the files of the state folder: what can be made again is, what cannot is refused with its name and a next step."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.model.codes import CODES, LASTING
from reconciler.model.exit_codes import EXIT_CONFIG
from reconciler.state import Store
from tests.engine.world import World

pytestmark = pytest.mark.fault
NO_ROOT = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def no_traceback(text: str) -> None:
    assert "Traceback" not in text
    assert "RC9001" not in text
    assert 'File "' not in text


@pytest.fixture
def applied(world: World) -> World:
    """An installation that has worked: one hook, a suspension made by command."""
    world.source("one")
    done = world.cli("run", "--once")
    assert done.returncode == 0, done.stderr
    assert world.cli("suspend", "EventSource/one", "--reason", "moving").returncode == 0
    return world


def replace_by_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()
    (path / "kept").write_text("x")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "garbage": lambda path: path.write_bytes(os.urandom(5_000)),
    "empty": lambda path: path.write_bytes(b""),
    "a folder": replace_by_folder,
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if path.is_file() else b"x"),
}


REMADE = [
    ("cache.db", "garbage"),
    ("cache.db", "a folder"),
    ("status.json", "half"),
    ("snapshot.json", "garbage"),
]


@pytest.mark.parametrize(("name", "damage"), REMADE)
def test_n15_a_file_that_can_be_made_again_is_made_again(applied: World, name: str, damage: str) -> None:
    path = applied.folder / "state" / name
    DAMAGES[damage](path)
    process = applied.daemon()
    applied.wait(
        lambda: applied.status()["summary"]["ready"] >= 0 and applied.status()["daemon"]["phase"] == "running", "it runs"
    )
    applied.wait(lambda: "pass_finished" in applied.log())
    process.terminate()
    assert process.wait(timeout=40) == 0
    no_traceback(applied.log())


@pytest.mark.parametrize("damage", DAMAGES)
def test_n15_the_queue_database_of_an_earlier_version_is_removed_whatever_it_contains(applied: World, damage: str) -> None:
    path = applied.folder / "state" / "engine.db"
    DAMAGES[damage](path)
    path.with_name("engine.db-wal").write_bytes(b"")
    done = applied.cli("run", "--once")
    assert done.returncode == 0, done.stderr
    assert not path.exists()
    assert not path.with_name("engine.db-wal").exists()
    no_traceback(done.stderr)


def test_n15_a_folder_in_the_place_of_the_status_file_is_named(applied: World) -> None:
    path = applied.folder / "state" / "status.json"
    replace_by_folder(path)
    done = applied.cli("run", "--once")
    assert done.returncode == 1
    assert "status.json" in done.stderr
    assert "RC7072" in done.stderr
    no_traceback(done.stderr)
    assert (path / "kept").exists()


@pytest.mark.parametrize("damage", ["garbage", "empty", "a folder", "half"])
@pytest.mark.parametrize("verb", ["run", "history", "doctor"])
def test_n15_a_state_that_cannot_be_used_is_refused_with_its_name_and_a_next_step(applied: World, damage: str, verb: str) -> None:
    path = applied.folder / "state" / "state.db"
    settle_log(path)
    DAMAGES[damage](path)
    before = path.read_bytes() if path.is_file() else None
    done = applied.cli(verb)
    assert done.returncode == (EXIT_CONFIG if verb == "run" else 1), done.stderr
    told = done.stdout + done.stderr
    assert str(path) in told
    assert re.search(r"RC70(01|09|70)", told)
    assert "recover" in told or "mv " in told
    no_traceback(told)
    assert (path.read_bytes() if path.is_file() else None) == before


def settle_log(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def test_n15_an_empty_file_where_nothing_ever_was_is_a_new_state(world: World) -> None:
    folder = world.folder / "state"
    folder.mkdir(mode=0o700)
    (folder / "state.db").write_bytes(b"")
    assert world.cli("run", "--once").returncode == 0


def test_n15_a_cut_write_ahead_log_loses_no_more_than_its_end(applied: World) -> None:
    store = Store.open(f"sqlite:///{applied.folder / 'state' / 'state.db'}", state_dir=applied.folder / "state")
    store.set_meta("x", "1")
    data = (applied.folder / "state" / "state.db-wal").read_bytes()
    store.close()
    (applied.folder / "state" / "state.db-wal").write_bytes(data[: len(data) // 2 + 7])
    done = applied.cli("run", "--once")
    assert done.returncode == 0, done.stderr
    shown = json.loads(applied.cli("status", "EventSource/one", "-o", "json").stdout)
    assert any(one["type"] == "Suspended" for one in shown["resources"][0]["conditions"])


def test_n15_a_full_disk_at_the_start_is_said_as_such(world: World) -> None:
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("the kernel allows no mount namespace here")
    (world.folder / "state").mkdir()
    inside = 'mount -t tmpfs -o size=64k,mode=700 tmpfs "$1" && head -c 65536 /dev/zero > "$1/filler"; shift; exec "$@"'
    for verb in (["run", "--once"], ["run"]):
        done = subprocess.run(
            [*unshare, "sh", "-c", inside, "sh", str(world.folder / "state"), *world.command(*verb)],
            env=world.env,
            cwd=world.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1, (verb, done.stdout, done.stderr)
        assert "RC7005" in done.stderr, (verb, done.stderr)
        no_traceback(done.stderr)


def test_n15_a_read_only_file_system_is_said_as_such(applied: World) -> None:
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("the kernel allows no mount namespace here")
    inside = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
    for verb in (["run", "--once"], ["run"], ["history"], ["doctor"]):
        done = subprocess.run(
            [*unshare, "sh", "-c", inside, "sh", str(applied.folder / "state"), *applied.command(*verb)],
            env=applied.env,
            cwd=applied.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        no_traceback(done.stdout + done.stderr)
        if verb[0] == "run":
            assert done.returncode == EXIT_CONFIG, (verb, done.stderr)
            assert "RC7002" in done.stderr


def test_n15_a_defect_is_one_line_with_its_code_and_no_traceback(world: World) -> None:
    code = (
        "import sys; from reconciler.cli import main, validate\n"
        "validate.validate = lambda options: 1 // 0\n"
        "sys.exit(main.main(['validate']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=world.env, cwd=world.folder)
    assert done.returncode == 1
    assert done.stderr.startswith("reconciler: RC9001: ZeroDivisionError")
    assert "Traceback" not in done.stderr


# -- who may write -------------------------------------------------------------------------------------------------------


def test_n34_a_state_folder_that_others_may_write_is_repaired_and_said(applied: World) -> None:
    folder = applied.folder / "state"
    folder.chmod(0o777)
    for name in ("state.db", "lock", "reserve"):
        if (folder / name).exists():
            (folder / name).chmod(0o666)
    told = applied.cli("doctor").stdout
    assert f"chmod 700 {folder}" in told
    assert "not healthy" in told
    done = applied.cli("run", "--once")
    assert done.returncode == 0, done.stderr
    assert mode(folder) & 0o022 == 0
    assert {path.name: mode(path) for path in folder.iterdir() if path.is_file() and mode(path) & 0o027} == {}
    assert "state_files_repaired" in done.stderr
    assert "state_files_repaired" not in applied.cli("run", "--once").stderr


def test_n34_a_folder_that_is_shared_like_tmp_is_refused(applied: World) -> None:
    folder = applied.folder / "state"
    folder.chmod(0o1777)
    done = applied.cli("run", "--once")
    assert done.returncode == EXIT_CONFIG
    assert "RC7071" in done.stderr
    assert str(folder) in done.stderr
    assert mode(folder) == 0o1777  # left as it is


def test_n34_everything_in_a_new_state_folder_is_private(world: World) -> None:
    before = os.umask(0)
    try:
        process = world.daemon()
        world.wait(lambda: (world.folder / "state" / "admin.sock").exists() and world.all_ready())
    finally:
        os.umask(before)
    folder = world.folder / "state"
    assert mode(folder) == 0o700
    open_to_others: dict[str, int] = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # the daemon runs: a file may be renamed meanwhile
            if path.is_file() and mode(path) & 0o077:
                open_to_others[path.name] = mode(path)
    written = {re.sub(r"^\.(\w+)-\w+$", r"\1.json", name) for name in open_to_others}  # `.status-x1y2` becomes `status.json`
    assert written <= {"status.json", "snapshot.json"}
    assert set(open_to_others.values()) <= {0o640}
    assert mode(folder / "admin.sock") == 0o600
    process.terminate()
    process.wait(timeout=40)


@NO_ROOT
def test_n15_files_without_rights_are_named(applied: World) -> None:
    path = applied.folder / "state" / "state.db"
    path.chmod(0)
    done = applied.cli("history")
    no_traceback(done.stderr)


# -- exit codes for a supervisor -----------------------------------------------------------------------------------------


def unit() -> dict[str, str]:
    text = (Path(__file__).parents[2] / "deploy" / "reconciler.service").read_text()
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


def test_n46_the_unit_does_not_restart_for_what_a_restart_does_not_repair() -> None:
    from reconciler.model.exit_codes import EXIT_ERROR, EXIT_USAGE

    assert unit()["Restart"] == "on-failure"
    assert {int(code) for code in unit()["RestartPreventExitStatus"].split()} == {EXIT_USAGE, EXIT_CONFIG}
    assert EXIT_CONFIG not in {EXIT_ERROR, EXIT_USAGE}
    assert set(CODES) >= LASTING


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("config", "RC3010"),
        ("key", "RC4011"),
        ("other key", "RC4012"),
        ("wide key", "RC4013"),
        ("no key", "RC4010"),
        ("owner", "RC7010"),
        ("newer", "RC7008"),
    ],
)
def test_n46_the_daemon_ends_with_its_own_code_for_what_a_restart_does_not_repair(applied: World, fault: str, code: str) -> None:
    folder = applied.folder / "state"
    key = folder / "master.key"
    if fault == "config":
        applied.config.write_text("owner: team-a\nsauce: {}\n")
    elif fault == "key":
        key.write_text("no key\n")
    elif fault == "other key":
        key.write_text("QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n")
    elif fault == "wide key":
        key.chmod(0o644)
    elif fault == "no key":
        key.unlink()
    elif fault == "owner":
        applied.configure(owner="somebody-else")
    else:
        with sqlite3.connect(folder / "state.db") as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
            connection.execute("UPDATE meta SET value = '9999' WHERE key = 'schema.oldest'")
        connection.close()
    done = applied.cli("run")
    assert done.returncode == EXIT_CONFIG, done.stderr
    assert code in done.stderr
    assert code in LASTING


def test_n46_what_time_repairs_ends_with_1_so_that_the_unit_starts_it_again(applied: World) -> None:
    process = applied.daemon()
    applied.wait(lambda: (applied.folder / "state" / "admin.sock").exists())
    done = applied.cli("run")
    assert done.returncode == 1
    assert "RC7003" in done.stderr
    process.terminate()
    process.wait(timeout=40)
