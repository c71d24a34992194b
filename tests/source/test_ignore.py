"""`.reconcilerignore`: as Git reads it, in time that no pattern and no name can stretch."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.source import read_folder
from reconciler.source.errors import SourceTooLarge
from reconciler.source.ignore import MAX_BYTES, Ignore
from tests.support.gitrepo import GitRepo

_PIECES = st.sampled_from(["a", "b", "ab", "*", "**", "?", "/", "[ab]", "[!a]", "[a-b]", "\\*", ".y", "[", "!", "#", " "])
_PATTERN = st.lists(_PIECES, min_size=1, max_size=7).map("".join).filter(lambda text: "//" not in text)
_NAME = st.lists(st.text("ab.y*", min_size=1, max_size=4).filter(lambda x: x not in {".", ".."}), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ignore")
    subprocess.run(["git", "init", "-q", str(made)], check=True)
    return made


def by_git(repository: Path, patterns: list[str], names: list[str]) -> list[bool]:
    (repository / ".git" / "info" / "exclude").write_text("\n".join(patterns) + "\n")
    found = subprocess.run(
        ["git", "-C", str(repository), "check-ignore", "--no-index", "-z", "--stdin", "-v", "-n"],
        input="\0".join(names).encode(),
        capture_output=True,
        check=False,
    ).stdout.decode()
    fields = found.split("\0")[:-1]
    rows = [fields[at : at + 4] for at in range(0, len(fields), 4)]
    return [bool(row[2]) and not row[2].startswith("!") for row in rows]


@settings(max_examples=150, deadline=None)
@given(st.lists(_PATTERN, min_size=1, max_size=5), st.lists(_NAME, min_size=1, max_size=8))
def test_n3_patterns_mean_what_they_mean_to_git(repository: Path, patterns: list[str], names: list[list[str]]) -> None:
    paths = sorted({"/".join(parts) for parts in names})
    ignore = Ignore("\n".join(patterns).encode())
    assert [ignore(path) for path in paths] == by_git(repository, patterns, paths)


@pytest.mark.parametrize(
    ("patterns", "name"),
    [
        ("*a*a*a*a*a*a*a*a*a*a*a*ab", "a" * 120 + ".yaml"),
        ("**/a/**/a/**/a/**/a/**/a/**/a/**/a/**/b", "a/" * 200 + "x.yaml"),
        ("*a" * 2_000 + "b", "a" * 250 + ".yaml"),
        ("[a-z]*" * 2_000 + "!", "a" * 250 + ".yaml"),
        ("?*" * 5_000 + "!", "a" * 250 + ".yaml"),
        ("**/" * 5_000 + "!", "a/" * 200 + "x.yaml"),
    ],
)
def test_n3_no_pattern_can_stretch_the_time(patterns: str, name: str) -> None:
    ignore = Ignore(patterns.encode())
    assert not ignore(name)


def test_n3_many_patterns_over_many_names_are_refused_and_not_endured() -> None:
    ignore = Ignore(b"*a*b\n" * (MAX_BYTES // 5))
    with pytest.raises(SourceTooLarge, match="too many patterns"):
        for number in range(100_000):
            ignore(f"folder/{number:0120}.yaml")


def test_n3_an_ignore_file_that_is_too_large_is_refused_and_not_left_out(tmp_path: Path) -> None:
    (tmp_path / ".reconcilerignore").write_bytes(b"# comment\n" * 10_000)
    (tmp_path / "a.yaml").write_text("kind: Canvas\n")
    with pytest.raises(SourceTooLarge):
        read_folder(tmp_path)


async def test_n3_a_repositorys_ignore_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    from reconciler.source import SourceOptions, open_source

    repo = GitRepo(tmp_path / "repo")
    repo.commit({".reconcilerignore": "# comment\n" * 10_000, "a.yaml": "kind: Canvas\n"})
    source = open_source(SourceOptions(str(repo.path)), tmp_path / "state")
    with pytest.raises(SourceTooLarge, match="reconcilerignore"):
        await source.snapshot(await source.fetch())
    await source.close()
