"""What a commit says cannot take unbounded time or memory: hostile names, patterns, expressions and numbers of mistakes."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.manifests.cel import ExpressionError, _pattern_program, check_pattern, compile_filter
from reconciler.manifests.load import MAX_OF_FILE, MAX_PROBLEMS

CPU_S = 5
"""Of processor time, not of the clock: a slow machine changes nothing."""
MEMORY = 200 << 20


def source(name: str, filters: str) -> str:
    return (
        f"kind: EventSource\nmetadata: {{name: {name}}}\nspec:\n  type: webhook\n  events: [{{type: x, filters: [{filters}]}}]\n"
    )


def stage(name: str, *connections: str) -> str:
    listed = ", ".join(f"{{type: stage, name: {one}}}" for one in connections)
    return f"kind: Stage\nmetadata: {{name: {name}}}\nspec: {{connections: [{listed}], executor: {{type: noop}}}}\n"


def integration(name: str, secret: str, key: str = "A") -> str:
    return (
        f"kind: Integration\nmetadata: {{name: {name}}}\nspec: {{type: github, url: 'https://github.com/acme', "
        f"auth: {{use: token, token: {{valueFrom: {{secret: {{name: {secret}, key: {key}}}}}}}}}}}\n"
    )


def secret(name: str, keys: int = 1) -> str:
    data = ", ".join(f"{'K' * 40}{number}: {{env: RECONCILER_SECRET_A}}" for number in range(keys))
    return f"kind: Secret\nmetadata: {{name: {name}}}\nspec: {{provider: env, data: {{{data}}}}}\n"


PATTERNS = [
    "x{0,1000}" * 100,
    "(?:x{0,30}){0,30}" * 50,
    "\\\\pL{1000}",
    "(a*)*" * 200,
    "(" * 500 + ")" * 500,
    "\\\\w{0,1000}" * 90,
]
EXPRESSIONS = [
    "(" * 2_000 + "1" + ")" * 2_000,
    "$.l" + ".map(x,x)" * 400,
    "$.l.all(x," * 250 + "true" + ")" * 250,
    "$.a in [" + "1," * 1_900 + "1]",
    "\u00e9" * 4_000,
    '$.s.matches("' + "x{0,1000}" * 300 + '")',
]
LONG = ["$" + ".a" * 1_900, "$" + "[0]" * 1_200, "a?b:" * 900, "-" * 3_500]
TREES = {
    "long-expressions": {
        f"{file}.yaml": "---\n".join(
            source(f"s{file}-{n}", f"{{type: data, data: {{expression: '{one}=={n}'}}}}") for n in range(200)
        )
        for file, one in enumerate(LONG)
    },
    "one-stage-with-wrong-references": {
        "a.yaml": stage("one", *("abc" * 20 + str(n) for n in range(9_000))),
        "b.yaml": "---\n".join(stage("abd" * 19 + str(n)) for n in range(990)),
    },
    "ignore": {".reconcilerignore": "*a*a*a*a*a*a*a*a*a*a*a*ab\n", "a" * 120 + ".yaml": "kind: Canvas\nmetadata: {name: a}\n"},
    "patterns": {
        "a.yaml": "---\n".join(
            source(f"s{n}", f'{{type: payload, payload: {{a: "{PATTERNS[n % len(PATTERNS)]}{n}"}}}}') for n in range(300)
        )
    },
    "expressions": {
        "a.yaml": "---\n".join(
            source(f"s{n}", f"{{type: data, data: {{expression: '{EXPRESSIONS[n % len(EXPRESSIONS)]} //{n}'}}}}")
            for n in range(150)
        )
    },
    "one-name-many-times": {
        f"{file}.yaml": "---\n".join("kind: Canvas\nmetadata: {name: a}\n" for _ in range(990)) for file in range(15)
    },
    "wrong-references": {
        "a.yaml": "---\n".join(secret("a" * 40 + str(n)) for n in range(900)),
        "b.yaml": "---\n".join(integration(f"i{n}", "a" * 38 + f"{n}b") for n in range(900)),
    },
    "wrong-keys": {
        "a.yaml": secret("big", 9_000),
        "b.yaml": "---\n".join(integration(f"i{n}", "big", "K" * 38 + f"X{n}") for n in range(900)),
    },
    "circles": {
        "a.yaml": "---\n".join(stage(f"s{n}", f"s{(n + 1) % 990}") for n in range(990)),
        "b.yaml": "---\n".join(stage(f"t{n}", *(f"t{(n + step) % 300}" for step in range(1, 40))) for n in range(300)),
    },
    "mistakes": {
        f"{file}.yaml": f"kind: Stage\nmetadata: {{name: q{file}}}\nspec: {{a: 1, b: 2}}\n---\n" * 900 for file in range(20)
    },
    "long-words": {
        "a.yaml": "kind: " + "EventSourc" * 50_000 + "\n",
        "b.yaml": "kind: EventSource\nmetadata: {name: b}\nspec: {type: " + "x" * 900_000 + "}\n",
        "c.yaml": "kind: EventSource\nmetadata: {name: c}\nspec: {" + "y" * 900 + ": 1}\n",
        "d.yaml": "a: " + "9" * 900_000 + "\n",
    },
    "nesting": {"a.yaml": "[" * 200_000, "b.yaml": "{a: " * 100_000, "c.yaml": "- " * 300_000, "d.yaml": "---\n" * 200_000},
    "cron": {
        "a.yaml": "kind: EventSource\nmetadata: {name: c}\nspec: {type: schedule, schedule: {cron: '"
        + ",".join(["0-59"] * 30_000)
        + " * * * *'}}\n"
    },
}


def bound() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


@pytest.mark.parametrize("tree", TREES)
def test_n3_a_hostile_tree_is_validated_within_its_bounds(tmp_path: Path, tree: str) -> None:
    for name, text in TREES[tree].items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "reconciler", "validate", str(tmp_path), "-o", "json"],
        capture_output=True,
        preexec_fn=bound,
        check=False,
    )
    assert done.returncode == (0 if tree == "ignore" else 5), done.stderr.decode()[-500:]
    document = json.loads(done.stdout)
    assert document["valid"] is (tree == "ignore")
    assert len(done.stdout) < 2 << 20


def test_n3_of_very_many_problems_the_first_of_each_file_are_reported(tmp_path: Path) -> None:
    from reconciler.manifests import SourceFile, load

    bad = "kind: Canvas\nmetadata: {name: A_}\n---\n" * 900
    files = [SourceFile(f"{n}.yaml", str(n), f"# {n}\n{bad}".encode()) for n in range(3)]
    desired = load(files, revision="r")
    assert not desired.complete
    assert len(desired.problems) < MAX_PROBLEMS
    for file in files:
        mine = [one for one in desired.problems if one.location.file == file.path]
        assert len(mine) == MAX_OF_FILE + 1
        assert "more problems in this file" in mine[-1].message


_PART = st.sampled_from(
    [
        "a",
        "(",
        ")",
        "[a-z]",
        "[^]]",
        "[[:alpha:]]",
        "*",
        "+?",
        "{0,3}",
        "{2}",
        "{3,1}",
        "{a}",
        "|",
        ".",
        "\\d",
        "\\{",
        "\\Q{2}\\E",
        "(?i)",
        "^",
        "$",
        "[",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_PART, max_size=8).map("".join))
def test_n3_counting_a_patterns_size_changes_nothing_about_what_is_valid(pattern: str) -> None:
    result = _pattern_program().eval(data={"event": {"text": "", "pattern": pattern}, "headers": {}})
    valid = isinstance(result.value(), bool)
    try:
        check_pattern(pattern)
    except ExpressionError:
        assert not valid
    else:
        assert valid


@pytest.mark.parametrize("pattern", ["((x{0,10}){0,10}){0,9}y", "^.{1,255}$", "[a-z]{0,1000}", "(a|b){100}", "{2", "a{,5}"])
def test_n3_a_pattern_of_ordinary_size_is_valid(pattern: str) -> None:
    check_pattern(pattern)


@pytest.mark.parametrize("pattern", ["x{0,1000}" * 11, "(x{0,100}){0,100}", "x{1001}", "\\pL{100}", "(?:(?:x{10}){10}){11}"])
def test_n3_a_pattern_that_stands_for_too_much_is_refused(pattern: str) -> None:
    with pytest.raises(ExpressionError, match=r"too large|repeated more than"):
        check_pattern(pattern)
    with pytest.raises(ExpressionError, match=r"too large|repeated more than"):
        compile_filter(f"$.s.matches(r'{pattern}')")
