"""Run as a program on a small disk of its own: ``python -m tests.state.full_disk FOLDER``. Ends with 0 when every promise held."""

import sys
from pathlib import Path

from reconciler.model.objects import IntentState
from reconciler.model.records import Outcome
from reconciler.state import StorageFull, Store
from reconciler.state.database import RESERVE_BYTES
from tests.state.samples import entry, intent, recorded


def fill(path: Path) -> None:
    """Take every byte that is left."""
    with path.open("wb", buffering=0) as file:
        for size in (65_536, 4_096, 512, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def refused(store: Store, number: int) -> bool:
    try:
        store.begin([intent(number)], [entry()] * 20)
    except StorageFull:
        return True
    return False


def main(folder: Path) -> None:
    store = Store.open(f"sqlite:///{folder / 'state.db'}", state_dir=folder)
    reserve = folder / "reserve"
    assert reserve.stat().st_size == RESERVE_BYTES
    store.begin([intent(n) for n in range(300)], [entry()])
    fill(folder / "filler")
    begun = 300
    while not refused(store, begun):  # frames of the log that are used again still take a few
        begun += 1
        assert begun < 5_000, "the disk never became full"
    rows = store.verify_audit().rows
    assert len(store.unsettled()) == begun, "a refused intent was stored"

    store.settle([Outcome(f"intent-{n}", IntentState.DONE, recorded(n)) for n in range(begun)])
    assert store.unsettled() == ()
    assert len(store.recorded()) == begun
    assert not reserve.exists(), "the outcomes fitted without the reserve: this run proves nothing"
    assert refused(store, 9_000), "a write was begun while there was no reserve for its outcome"
    assert store.verify_audit().rows == rows

    (folder / "filler").unlink()
    assert not refused(store, 9_001)
    assert reserve.stat().st_size == RESERVE_BYTES
    store.check()
    assert store.verify_audit().ok
    store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
