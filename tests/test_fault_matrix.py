"""Every fault of docs/faults.md has a test that names it."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "faults.md"
ID = re.compile(r"[a-fn]\d{1,2}")


def documented() -> list[str]:
    return [row.lower() for row in re.findall(r"^\| ([A-FN]\d+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)]


def named() -> set[str]:
    """The ids at the front of the tests' names: ``test_a1_a2_what_holds``."""
    found: set[str] = set()
    for path in TESTS.rglob("test_*.py"):
        for name in re.findall(
            r"^(?:async )?def (test_[a-z0-9_]+)|^    (?:async )?def (test_[a-z0-9_]+)",
            path.read_text(encoding="utf-8"),
            re.MULTILINE,
        ):
            for part in (name[0] or name[1]).split("_")[1:]:
                if not ID.fullmatch(part):
                    break
                found.add(part)
    return found


def test_every_documented_fault_has_a_test_with_its_id_in_the_name() -> None:
    assert [fault for fault in documented() if fault not in named()] == []


def test_every_id_in_the_name_of_a_test_is_documented() -> None:
    assert sorted(named() - set(documented())) == []


def test_the_page_lists_each_fault_once_and_in_order() -> None:
    ids = documented()
    assert len(ids) == 108 + 63
    assert ids == sorted(ids, key=lambda one: (one[0], int(one[1:])))
