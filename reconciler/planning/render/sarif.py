"""Problems as SARIF 2.1.0, for code scanning."""

from __future__ import annotations

import json
from urllib.parse import quote

from reconciler.model.codes import CODES
from reconciler.model.errors import Problem
from reconciler.model.printable import plain_lines
from reconciler.model.values import JsonValue

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def render_sarif(problems: tuple[Problem, ...], *, version: str) -> str:
    """Return one SARIF run; ``version`` is this program's."""
    ids = sorted({problem.code for problem in problems})
    driver = {"name": "reconciler", "version": version, "rules": [_rule(code) for code in ids]}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(p, ids.index(p.code)) for p in problems],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False) + "\n"


def _rule(code: str) -> JsonValue:
    known = CODES.get(code)
    rule: dict[str, JsonValue] = {"id": code}
    if known is not None:
        rule |= {"shortDescription": {"text": known.title}, "fullDescription": {"text": known.cause}, "help": {"text": known.fix}}
    return rule


def _text(text: str) -> str:
    """Return a message in the form of SARIF, in which ``[text](target)`` would be a link (SARIF 2.1.0, 3.11.6)."""
    return plain_lines(text).replace("](", "] (")


def _result(problem: Problem, index: int) -> JsonValue:
    result: dict[str, JsonValue] = {
        "ruleId": problem.code,
        "ruleIndex": index,
        "level": problem.severity.value,
        "message": {"text": _text(problem.message + (f" {problem.hint}" if problem.hint else ""))},
    }
    if problem.location.file:
        place: dict[str, JsonValue] = {"artifactLocation": {"uri": quote(problem.location.file)}}
        if problem.location.line:
            column = {"startColumn": problem.location.column} if problem.location.column else {}
            place["region"] = {"startLine": problem.location.line, **column}
        result["locations"] = [{"physicalLocation": place}]
    if problem.pointer:
        result["properties"] = {"pointer": problem.pointer}
    return result
