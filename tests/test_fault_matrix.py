"""Every fault that this version answers for has a test that names it."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
COVERED = (
    [f"a{n}" for n in (1, 2, 3, 4, 8, 9, 10, 11, 12, 13)]
    + [f"b{n}" for n in (1, 2, 3, 4, 5, 6, 7, 11)]
    + [f"c{n}" for n in (*range(1, 21), 23, 24)]
    + [f"d{n}" for n in (*range(1, 21), 23, 24, 25)]
    + ["a5", "a6", "a7", "a14", "a15", "a16", "a17", "a18", "b8", "b9", "b10", "d21", "d22"]
    + [f"e{n}" for n in range(1, 14)]
    + [f"f{n}" for n in (*range(1, 15),)]
)


def named() -> set[str]:
    found: set[str] = set()
    for path in TESTS.rglob("test_*.py"):
        for name in re.findall(r"def (test_[a-z0-9_]+)", path.read_text(encoding="utf-8")):
            for part in name.split("_")[1:]:
                if not re.fullmatch(r"[a-f]\d{1,2}", part):
                    break
                found.add(part)
    return found


def test_every_fault_of_this_version_has_a_test_with_its_id_in_the_name() -> None:
    assert [fault for fault in COVERED if fault not in named()] == []
