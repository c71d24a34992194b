"""The documentation says what the code does: pages, commands, keys, metrics, codes, links and examples are held together."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from reconciler import __version__
from reconciler.cli import main as cli
from reconciler.cli.verbs import VERBS
from reconciler.config.settings import KEYS, Config
from reconciler.manifests import SourceFile, load
from reconciler.model.codes import CODES
from tests.docs import pages as md

ROOT = md.ROOT
PAGES = md.pages()
PACKAGES = sorted(path.parent.name for path in (ROOT / "reconciler").glob("*/__init__.py"))
CODE = re.compile(r"RC[0-9]{4}")
OTHER_VARIABLES = {"RECONCILER_DEBUG", "RECONCILER_FAILPOINT", "RECONCILER_FAILPOINTS", "RECONCILER_EXECUTION_ID"}


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _each_page() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", PAGES, ids=md.name_of)


# -- generated pages ----------------------------------------------------------------------------------------------------


def test_generated_pages_are_what_the_code_says() -> None:
    assert _generator().stale(ROOT / "docs") == []


def test_check_fails_for_a_page_that_was_edited_by_hand_missing_or_left_over(tmp_path: Path) -> None:
    generator = _generator()
    generator.write(tmp_path)
    assert generator.stale(tmp_path) == []
    (tmp_path / "cli.md").write_text("edited", encoding="utf-8")
    (tmp_path / "errors" / "RC7001.md").unlink()
    (tmp_path / "errors" / "RC0000.md").write_text("left over", encoding="utf-8")
    assert generator.stale(tmp_path) == ["cli.md", "errors/RC0000.md", "errors/RC7001.md"]
    assert generator.write(tmp_path) == ["cli.md", "errors/RC0000.md", "errors/RC7001.md"]
    assert generator.stale(tmp_path) == []


def test_the_check_mode_of_the_script_writes_nothing_and_exits_0() -> None:
    before = {path: path.stat().st_mtime_ns for path in (ROOT / "docs").rglob("*.md")}
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path: path.stat().st_mtime_ns for path in (ROOT / "docs").rglob("*.md")} == before


def test_every_verb_and_every_option_is_in_the_commands_page() -> None:
    text = _read(ROOT / "docs" / "cli.md")
    for verb in VERBS:
        section = text.partition(f"\n### {verb.name}\n")[2].partition("\n### ")[0]
        assert section, verb.name
        for flags, _ in verb.arguments:
            assert all(flag in section for flag in flags if flag.startswith("-")), (verb.name, flags)


def test_every_configuration_key_is_in_the_configuration_page() -> None:
    text = _read(ROOT / "docs" / "configuration.md")
    assert [key.path for key in KEYS if f"| `{key.path}` |" not in text] == []


# -- commands, keys, variables, metrics, exit codes ---------------------------------------------------------------------


@_each_page()
def test_every_command_on_a_page_is_one_that_the_program_takes(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused = []
    for arguments in md.commands(_read(page)):
        try:
            cli.build_parser().parse_args(arguments)
        except SystemExit as leaving:
            if leaving.code != 0:  # --help leaves with 0
                refused.append((arguments, capsys.readouterr().err))
    assert refused == []


def test_commands_are_found_on_the_pages_at_all() -> None:
    verbs = {verb.name for verb in VERBS}
    assert {word for page in PAGES for arguments in md.commands(_read(page)) for word in arguments} >= verbs
    with pytest.raises(SystemExit):
        cli.build_parser().parse_args(["plan", "--no-such-option"])


@_each_page()
def test_every_make_target_on_a_page_exists(page: Path) -> None:
    text = _read(page)
    targets = set(re.findall(r"^([a-z-]+):", _read(ROOT / "Makefile"), re.MULTILINE))
    named = {word for line in [*md.shell_lines(text), *md.inline(text)] for word in re.findall(r"^make ([a-z-]+)", line)}
    assert named <= targets


@_each_page()
def test_every_configuration_key_that_a_page_names_exists(page: Path) -> None:
    known = {key.path for key in KEYS}
    sections = {path.partition(".")[0] for path in known if "." in path}
    for name in md.inline(_read(page)):
        key = name.partition(":")[0]
        like_a_key = re.fullmatch(r"[a-z][A-Za-z]*(\.[A-Za-z]+)+", key) and not key.endswith((".db", ".json"))
        if like_a_key and key.partition(".")[0] in sections:
            assert key in known or any(one.startswith(key + ".") for one in known), key


@_each_page()
def test_every_environment_variable_that_a_page_names_is_read_by_the_program(page: Path) -> None:
    known = {key.variable for key in KEYS} | {f"{key.variable}_FILE" for key in KEYS} | OTHER_VARIABLES
    named = set(re.findall(r"RECONCILER_[A-Z0-9_]*[A-Z0-9]", _read(page)))
    # What begins with RECONCILER_SECRET_ is a secret of a user, allowed by `secrets.env`.
    assert {name for name in named - known if not re.match(r"RECONCILER_SECRET(_|$)", name)} == set()


def test_the_metrics_of_the_operations_page_are_exactly_those_of_the_code() -> None:
    from reconciler.server.metrics import METRIC_NAMES

    named = re.findall(r"`(reconciler_[a-z_]+)", _read(ROOT / "docs" / "operations.md"))
    assert sorted(set(named)) == sorted(METRIC_NAMES)


def test_the_log_events_of_the_operations_page_are_those_that_the_program_writes() -> None:
    source = "".join(_read(path) for path in (ROOT / "reconciler").rglob("*.py"))
    written = set(re.findall(r"\.(?:info|warning|error|exception|_?log)\(\s*\"([a-z_]+)\"", source))
    written -= {"event_name"}  # get_logger's own example
    section = _read(ROOT / "docs" / "operations.md").partition("\n## Logs\n")[2].partition("\n## ")[0]
    table = "".join(line.partition(" | ")[0] for line in section.splitlines() if line.startswith("| "))
    assert set(re.findall(r"`([a-z_]+)`", table)) == written


def test_every_exit_code_is_documented() -> None:
    from reconciler.cli import status
    from reconciler.model import exit_codes

    codes = {value for name, value in vars(exit_codes).items() if name.startswith("EXIT_")} | {status.NOT_READY, 2, 3, 4}
    assert {code for code, _, _ in _generator().EXIT_CODES} == codes
    section = _read(ROOT / "docs" / "operations.md").partition("\n## Exit codes\n")[2].partition("\n## ")[0]
    assert {int(code) for code in re.findall(r"^\| `(\d+)`", section, re.MULTILINE)} == codes


# -- error codes --------------------------------------------------------------------------------------------------------


def _codes_used(path: Path) -> set[str]:
    """Codes in string literals of a module; docstrings only tell of them."""
    tree = ast.parse(_read(path))
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in told]
    return {code for value in constants if isinstance(value, str) for code in CODE.findall(value)}


def test_every_code_in_the_source_has_an_entry_and_a_page() -> None:
    used = {code: path for path in (ROOT / "reconciler").rglob("*.py") for code in _codes_used(path)}
    assert {code: str(path) for code, path in used.items() if code not in CODES} == {}
    assert [code for code in CODES if not (ROOT / "docs" / "errors" / f"{code}.md").is_file()] == []


def test_no_code_stands_twice_in_the_table_and_each_is_in_its_range() -> None:
    from reconciler.model import codes

    ids = [code.id for code in codes._TABLE]
    assert sorted(ids) == sorted(set(ids))
    prefixes = {prefix for prefix, _ in _generator().RANGES}
    assert {code[:4] for code in ids} <= prefixes


def test_every_code_in_the_table_is_used_by_the_program() -> None:
    paths = [path for path in (ROOT / "reconciler").rglob("*.py") if path.name != "codes.py"]
    used = {code for path in paths for code in _codes_used(path)}
    assert sorted(set(CODES) - used) == []


def test_every_code_says_what_to_do_in_whole_sentences() -> None:
    for code in CODES.values():
        assert CODE.fullmatch(code.id), code.id
        assert code.title, code.id
        assert not code.title.endswith("."), code.id
        assert code.cause.endswith("."), code.id
        assert code.fix.endswith("."), code.id


@_each_page()
def test_every_code_that_a_page_names_exists(page: Path) -> None:
    assert set(CODE.findall(_read(page))) <= set(CODES)


# -- links, names, layout -----------------------------------------------------------------------------------------------


@_each_page()
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    for target in md.links(_read(page)):
        if re.match(r"[a-z]+:", target):
            assert target.startswith(("https://", "mailto:")), target
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{md.name_of(page)}: {target}"
        assert file.is_relative_to(ROOT), target
        if anchor:
            assert anchor in md.anchors(_read(file)), f"{md.name_of(page)}: {target}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    queue = [ROOT / "README.md"]
    while queue:
        page = queue.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        targets = [target.partition("#")[0] for target in md.links(_read(page)) if not re.match(r"[a-z]+:", target)]
        queue += [(page.parent / target).resolve() for target in targets if target]
    assert [md.name_of(page) for page in PAGES if page not in seen] == []


@_each_page()
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    folders = r"(reconciler|tests|deploy|examples|docs|schemas|benchmarks)/[\w./-]+"
    named = [name for name in md.inline(_read(page)) if re.fullmatch(folders, name)]
    checks = {Config().review.check, "reconciler/sync"}  # names of checks and statuses at a code host
    assert [name for name in named if name not in checks and not (ROOT / name).exists()] == []


def test_the_layout_table_names_every_package_and_no_other() -> None:
    section = _read(ROOT / "docs" / "architecture.md").partition("\n## Layout\n")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `reconciler/([a-z]+)/`", section, re.MULTILINE)
    assert sorted(named) == PACKAGES


def test_every_promise_of_the_readme_names_tests_that_exist() -> None:
    section = _read(ROOT / "README.md").partition("\n## Promises\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if re.match(r"\| P\d+ ", line)]
    assert [row.split()[1] for row in rows] == [f"P{n}" for n in range(1, 13)]
    for row in rows:
        tests = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row)
        assert tests, row
        for file, name in tests:
            assert (ROOT / file).is_file(), file
            assert re.search(rf"^(async )?def {name}\b", _read(ROOT / file), re.MULTILINE), f"{file}::{name}"


def test_the_changelog_has_the_version_of_the_program() -> None:
    assert re.search(rf"^## {re.escape(__version__)}\b", _read(ROOT / "CHANGELOG.md"), re.MULTILINE)


# -- manifests ----------------------------------------------------------------------------------------------------------


EXAMPLES = sorted(path for path in (ROOT / "examples").iterdir() if path.is_dir())


def _source_file(name: str, data: bytes) -> SourceFile:
    return SourceFile(name, hashlib.sha256(data).hexdigest(), data)


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_valid(folder: Path) -> None:
    from reconciler.source.folder import read_folder

    files = [SourceFile(name, blob, data) for name, blob, data in read_folder(folder, config_name="reconciler.yaml")]
    desired = load(files, revision="example")
    assert files
    assert [str(problem) for problem in desired.problems] == []
    assert desired.resources


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*/reconciler.yaml")), ids=lambda file: file.parent.name)
def test_the_configuration_of_an_example_is_valid(file: Path) -> None:
    from reconciler.config.load import load_config

    config = load_config(file, {})
    assert config.source.url
    assert config.server.public_url.startswith("https://") or file.parent.name in {"keyless", "notifications"}


@_each_page()
def test_every_manifest_on_a_page_is_valid(page: Path) -> None:
    yaml = [block.text for block in md.blocks(_read(page)) if block.language == "yaml"]
    shown = [text for text in yaml if re.search(r"^kind:", text, re.MULTILINE)]
    if not shown:
        return
    desired = load([_source_file(f"{i}.yaml", text.encode()) for i, text in enumerate(shown)], revision="page", sandbox=True)
    # In the reference each kind is shown alone, without what its examples refer to.
    allowed = {"RC1212"} if page.name in {"manifests.md", "api.md"} else set()
    assert [f"{p.location}: {p.code}: {p.message}" for p in desired.problems if p.code not in allowed] == []


@_each_page()
def test_every_filter_on_a_page_compiles(page: Path) -> None:
    from reconciler.manifests.cel import compile_constraints, compile_filter

    for block in md.blocks(_read(page)):
        if block.language == "yaml" and block.text.startswith("filters:"):
            for one in yaml.safe_load(block.text)["filters"]:
                if one["type"] == "payload":
                    compile_constraints(one["payload"])
                else:
                    compile_filter(one[one["type"]]["expression"])


@_each_page()
def test_every_configuration_on_a_page_is_valid(page: Path, tmp_path: Path) -> None:
    from reconciler.config.load import load_config

    sections = {key.path.partition(".")[0] for key in KEYS}
    for block in md.blocks(_read(page)):
        if block.language == "yaml" and block.text.partition(":")[0] in sections:
            file = tmp_path / "reconciler.yaml"
            file.write_text(block.text, encoding="utf-8")
            load_config(file, {})


def test_the_schema_files_are_the_ones_that_the_wheel_ships() -> None:
    from reconciler.manifests import schema as schemas

    assert os.listdir(ROOT / "schemas")
    assert schemas.schema("manifest")


def test_the_architecture_page_says_where_each_behavior_is() -> None:
    section = _read(ROOT / "docs" / "architecture.md").partition("\n## Where to find it\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| `([\w./-]+\.py)` \| `(\w+)` \|$", section, re.MULTILINE)
    assert len(rows) >= 20
    assert [row for row in rows if not _is_defined(ROOT / row[1], row[2])] == [], "moved or renamed: correct docs/architecture.md"


def _is_defined(file: Path, name: str) -> bool:
    """Whether ``file`` defines the function or method ``name``."""
    return file.is_file() and any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
        for node in ast.walk(ast.parse(_read(file)))
    )


def test_a_function_that_moved_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "here.py").write_text("class Store:\n    async def add(self) -> None: ...\n", encoding="utf-8")
    assert _is_defined(tmp_path / "here.py", "add")
    assert not _is_defined(tmp_path / "here.py", "remove")
    assert not _is_defined(tmp_path / "moved.py", "add")
