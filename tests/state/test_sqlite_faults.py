"""What disks, crashes and downgrades do to the SQLite state."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from reconciler.model.errors import StateError
from reconciler.model.objects import IntentState
from reconciler.model.records import Outcome
from reconciler.state import StateLock, StorageFull, Store
from reconciler.state.cache import MAX_BYTES, BlobCache
from reconciler.state.copies import copy_before_upgrade
from reconciler.state.migrate import HEAD
from tests.state.samples import entry, intent, recorded

pytestmark = pytest.mark.fault


def open_store(folder: Path, **options: bool) -> Store:
    return Store.open(f"sqlite:///{folder / 'state.db'}", state_dir=folder, **options)


def test_a10_a_kill_within_the_first_migration_leaves_no_half_schema(tmp_path: Path) -> None:
    code = f"from pathlib import Path; from reconciler.state import Store; Store.open('sqlite:///{tmp_path}/state.db', state_dir=Path('{tmp_path}'))"
    env = os.environ | {"RECONCILER_FAILPOINTS": "1", "RECONCILER_FAILPOINT": "state-migrate"}
    assert subprocess.run([sys.executable, "-c", code], env=env).returncode == -signal.SIGKILL
    with sqlite3.connect(tmp_path / "state.db") as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    open_store(tmp_path).close()


def test_a13_a_held_state_folder_names_its_holder_and_kill_9_frees_it(tmp_path: Path) -> None:
    code = (
        f"import time; from pathlib import Path; from reconciler.state import StateLock; StateLock(Path('{tmp_path}')).acquire()"
        "; print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(StateError, match=f"pid {process.pid}"):
        StateLock(tmp_path).acquire()
    process.kill()
    process.wait()
    process.stdout.close()
    lock = StateLock(tmp_path)
    lock.acquire()
    lock.release()


def test_b1_b2_on_a_full_disk_no_intent_is_accepted_and_what_was_begun_is_still_recorded(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.begin([intent()], [entry()])
    with store._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    store._engine.dispose()
    full = make_full(store, int(pages))
    with pytest.raises(StorageFull):
        for number in range(2, 2_000):
            store.begin([intent(number)], [entry()] * 20)
    full["limit"] = 1_000_000  # the reserve gives the disk room again
    store._engine.dispose()
    store.settle([Outcome("intent-1", IntentState.DONE, recorded())])
    assert recorded().address in {one.address for one in store.recorded()}
    store.close()


def make_full(store: Store, pages: int) -> dict[str, int]:
    """Let the database grow no further than ``pages`` plus a little: what a full disk does, without one."""
    from sqlalchemy import event

    limit = {"limit": pages + 2}

    @event.listens_for(store._engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {limit['limit']}")

    return limit


def test_b3_a_database_that_another_process_holds_for_a_while_is_waited_for(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    given_up = threading.Event()

    def give_up() -> None:
        given_up.set()
        other.execute("ROLLBACK")

    threading.Timer(1.5, give_up).start()
    store.set_meta("x", "1")
    assert given_up.is_set(), "written while another process held the database"
    other.close()
    store.close()


def test_b1_b2_on_a_really_full_disk_outcomes_use_the_reserve_and_nothing_is_begun_until_it_is_back(tmp_path: Path) -> None:
    inside = 'mount -t tmpfs -o size=24m tmpfs "$1" && exec "$2" -m tests.state.full_disk "$1"'
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("the kernel allows no mount namespace here: the test above stands for it")
    done = subprocess.run(
        [*unshare, "sh", "-c", inside, "sh", str(tmp_path), sys.executable],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_b3_a_new_database_that_another_process_is_about_to_write_is_waited_for(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")  # against this the change to WAL fails at once, whatever busy_timeout says
    threading.Timer(0.7, lambda: other.execute("ROLLBACK")).start()
    store = open_store(tmp_path)
    assert store.get_meta("incarnation")
    store.close()
    other.close()


@pytest.mark.parametrize("damage", ["header", "pages", "truncated"])
def test_b5_a_damaged_database_is_refused_untouched_and_the_message_names_the_way_out(tmp_path: Path, damage: str) -> None:
    store = open_store(tmp_path)
    store.record([recorded(number) for number in range(300)])
    store.close()
    file = tmp_path / "state.db"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    data = bytearray(file.read_bytes())
    if damage == "header":
        data[:16] = b"\0" * 16
    elif damage == "pages":
        data[8_192:16_384] = os.urandom(8_192)
    else:
        del data[len(data) // 2 :]
    file.write_bytes(data)
    with pytest.raises(StateError) as caught:
        open_store(tmp_path)
    assert caught.value.code in {"RC7009", "RC7001"}
    assert "recover" in caught.value.hint
    assert file.read_bytes() == bytes(data)


def test_b7_no_committed_row_is_lost_over_kills_under_write_load(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    code = f"""
import sys
from pathlib import Path
from reconciler.state import Store
from tests.state.samples import entry
store = Store.open('sqlite:///{tmp_path}/state.db', state_dir=Path('{tmp_path}'))
number = int(sys.argv[1])
while True:
    store.append_audit([entry(external_id=str(number))])
    print(number, flush=True)
    number += 1
"""
    acknowledged = 0
    for turn in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(acknowledged + 1)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.25 + 0.05 * turn)
        process.kill()
        process.wait()
        lines = process.stdout.read().split()
        process.stdout.close()
        acknowledged = int(lines[-1]) if lines else acknowledged + 1
    store = open_store(tmp_path)
    report = store.verify_audit()
    assert report.ok
    assert report.rows >= acknowledged
    stored = {int(row.external_id) for _, row in store.audit_tail(100_000)}
    assert set(range(1, acknowledged + 1)) <= stored
    store.close()


def test_b11_a_state_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("UPDATE meta SET value = '9999' WHERE key = 'schema.oldest'")
    connection.close()
    with pytest.raises(StateError, match="was written by version"):
        open_store(tmp_path)


def test_f9_the_state_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    store = open_store(tmp_path / "state")
    store.set_meta("x", "1")
    store.blob_cache().put_many({"a": b"1"})
    copy_before_upgrade(tmp_path / "state" / "state.db", "0002")
    for path in (tmp_path / "state").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    store.close()


def test_b5_the_message_names_the_backup_that_there_is(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    copy_before_upgrade(tmp_path / "state.db", "0002")
    (tmp_path / "state.db").write_bytes(b"\0" * 8_192)
    with pytest.raises(StateError) as caught:
        open_store(tmp_path)
    assert str(tmp_path / "state.before-0002.db") in caught.value.hint


def test_a10_the_copy_before_a_migration_holds_what_is_only_in_the_write_ahead_log(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.record([recorded(number) for number in range(50)])
    assert (tmp_path / "state.db-wal").stat().st_size > 0
    copy = copy_before_upgrade(tmp_path / "state.db", "0002")
    store.close()
    restored = tmp_path / "restored"
    restored.mkdir()
    copy.rename(restored / "state.db")
    again = open_store(restored)
    assert len(again.recorded()) == 50
    again.close()


def test_a10_the_copy_is_of_this_upgrade_and_not_of_an_earlier_one_that_was_undone(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    copy_before_upgrade(tmp_path / "state.db", "0002")
    store.record([recorded(99)])
    copy = copy_before_upgrade(tmp_path / "state.db", "0002")
    store.close()
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT count(*) FROM managed_object").fetchone() == (1,)
    connection.close()
    assert copy_before_upgrade(tmp_path / "state.db", HEAD).exists() is False, "a state that is migrated is no copy from before"


def test_b9_an_upgrade_without_room_for_its_copy_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(tmp_path).close()
    before = (tmp_path / "state.db").read_bytes()
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1 << 10}))
    with pytest.raises(StorageFull, match=r"needs \d+ MiB of free disk space, and 1 MiB are free"):
        copy_before_upgrade(tmp_path / "state.db", "9999")
    assert (tmp_path / "state.db").read_bytes() == before


def test_an_error_of_the_database_shows_no_value_of_its_statement(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    secret = "hunter2" * 10
    with pytest.raises(StateError) as caught, store._write() as connection:
        connection.exec_driver_sql("INSERT INTO meta VALUES (?, ?)", (secret, None))
    chain: BaseException | None = caught.value
    while chain is not None:
        assert secret not in str(chain)
        chain = chain.__cause__
    store.close()


def test_ten_thousand_objects_are_written_and_read_in_a_breath(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    objects = [recorded(number) for number in range(10_000)]
    began = time.process_time()
    store.record(objects)
    wrote = time.process_time()
    assert len(store.recorded()) == 10_000
    read = time.process_time()
    store.close()
    assert wrote - began < 2.0  # 0.28 s on an idle core; a mistake costs ten times as much, a busy machine hardly more CPU
    assert read - wrote < 1.5  # 0.19 s


def test_a_cache_that_could_not_be_written_once_is_written_the_next_time(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    cache = store.blob_cache()
    cache._connection.execute("PRAGMA max_page_count = 4")
    cache.put_many({str(number): b"x" * 4_000 for number in range(50)})
    cache._connection.execute("PRAGMA max_page_count = 100000")
    cache.put_many({"b": None})  # type: ignore[dict-item]  # refused by a constraint: unlike a full disk, this leaves a transaction open
    cache.put_many({"a": b"1"})
    assert cache.get_many(["a", "b", "7"]) == {"a": b"1"}
    with sqlite3.connect(tmp_path / "cache.db") as other:  # committed, not only seen by the connection that wrote it
        assert other.execute("SELECT id FROM blob").fetchall() == [("a",)]
    other.close()
    store.close()


def test_a_cache_beyond_its_bound_is_begun_anew(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path / "cache.db")
    cache.put_many({"a": b"1"})
    cache.close()
    os.truncate(tmp_path / "cache.db", MAX_BYTES + 1)  # sparse: takes no room
    cache = BlobCache(tmp_path / "cache.db")
    assert cache.get_many(["a"]) == {}
    assert (tmp_path / "cache.db").stat().st_size < MAX_BYTES
    cache.close()


def test_a_missing_state_is_not_made_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="there is no state"):
        open_store(tmp_path, create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_parse_cache_is_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "cache.db").write_bytes(b"no database at all" * 100)
    store = open_store(tmp_path)
    store.blob_cache().put_many({"a": b"1"})
    assert store.blob_cache().get_many(["a", "b"]) == {"a": b"1"}
    store.close()
