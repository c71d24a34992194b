"""Problems and planned changes as SARIF 2.1.0, for code scanning."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

from reconciler.model.codes import CODES
from reconciler.model.errors import Problem
from reconciler.model.plan import Action, Change, Disposition
from reconciler.model.printable import plain_json, plain_lines
from reconciler.model.resources import Location
from reconciler.model.values import JsonValue, digest_of
from reconciler.planning.render.document import PlanDocument, PlanEntry
from reconciler.planning.render.lines import detail_lines
from reconciler.planning.render.values import bounded

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
MOST_RESULTS = 5_000
"""Results that code scanning shows of one upload; the rest is counted in the properties of the run."""
_MESSAGE_LIMIT = 4_000
_WIDTH = 400
_RULES = {
    Action.CREATE: "An object or a manifest is new",
    Action.UPDATE: "An object or a manifest changes",
    Action.REPLACE: "An object is deleted and created again",
    Action.DELETE: "An object or a manifest is removed",
    Action.ADOPT: "A foreign object is taken over",
    Action.REMARK: "An object gets a new name or marker",
    Action.RECORD: "The state records an existing object",
    Action.FORGET: "The state drops the record of an object",
}


class _Finding(NamedTuple):
    rule: str
    level: str
    message: str
    location: Location
    identity: str
    """Equal for the same finding in another run, whatever its line is."""
    properties: dict[str, JsonValue]


def sarif(document: PlanDocument, *, version: str) -> str:
    """Return one SARIF run: problems, then blocked changes (warnings), then all others (notes). ``version`` is this program's."""
    findings = [_problem(problem) for problem in (*document.problems, *document.unread)]
    entries = sorted(document.entries, key=lambda entry: entry.level is not Disposition.BLOCKED)
    findings += [_entry(entry) for entry in entries]
    properties: dict[str, JsonValue] = {
        "revision": document.revision,
        "sha256": document.sha256,
        "approvable": document.approvable,
        "summary": document.summary,
    }
    return _page(findings, "reconciler/plan", version, properties)


def problems_as_sarif(problems: Iterable[Problem], *, version: str) -> str:
    """Return one SARIF run with the problems alone, for ``validate``."""
    return _page([_problem(problem) for problem in problems], "reconciler/validate", version, {})


def _page(findings: list[_Finding], category: str, version: str, properties: dict[str, JsonValue]) -> str:
    kept, cut = findings[:MOST_RESULTS], len(findings) - MOST_RESULTS
    ids = sorted({finding.rule for finding in kept})
    driver = {"name": "reconciler", "version": version, "rules": [_rule(rule) for rule in ids]}
    run: dict[str, JsonValue] = {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"{category}/"},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, ids.index(finding.rule)) for finding in kept],
    }
    if cut > 0:
        properties = {**properties, "resultsNotShown": cut}
    if properties:
        run["properties"] = properties
    log: JsonValue = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return plain_json(json.dumps(log, indent=2, ensure_ascii=False)) + "\n"


def _rule(rule: str) -> JsonValue:
    kind, _, action = rule.partition("/")
    if kind == "change":
        title = _RULES[Action(action)]
        return {
            "id": rule,
            "shortDescription": {"text": title},
            "fullDescription": {"text": f"{title} when this plan is applied."},
        }
    known = CODES.get(rule)
    if known is None:
        return {"id": rule}
    return {
        "id": rule,
        "shortDescription": {"text": known.title},
        "fullDescription": {"text": known.cause},
        "help": {"text": known.fix},
    }


def _problem(problem: Problem) -> _Finding:
    return _Finding(
        problem.code,
        problem.severity.value,
        problem.message + (f" {problem.hint}" if problem.hint else ""),
        problem.location,
        digest_of([problem.code, problem.location.file, problem.pointer]),
        {"pointer": problem.pointer} if problem.pointer else {},
    )


def _entry(entry: PlanEntry) -> _Finding:
    target = f"{entry.title} {entry.place}".strip()
    state = f" ({entry.state})" if entry.state else ""
    lines = [f"{entry.action.value} {target}{state}", *entry.why]
    lines += [f"{line.mark} {line.text}".strip() for line in detail_lines(entry.details, _WIDTH)]
    blocked = entry.level is Disposition.BLOCKED
    address = entry.source.address if isinstance(entry.source, Change) else entry.title
    return _Finding(
        f"change/{entry.action.value}",
        "warning" if blocked else "note",
        "\n".join(lines),
        entry.anchor,
        digest_of([entry.action.value, address]),
        {"disposition": entry.level.value, "resource": entry.title},
    )


def _text(text: str) -> str:
    """Return a message in the form of SARIF, in which ``[text](target)`` would be a link (SARIF 2.1.0, 3.11.6)."""
    return plain_lines(bounded(text, _MESSAGE_LIMIT)).replace("](", "] (")


def _result(finding: _Finding, index: int) -> JsonValue:
    result: dict[str, JsonValue] = {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": finding.level,
        "message": {"text": _text(finding.message)},
        "partialFingerprints": {"reconciler/v1": finding.identity},
    }
    if finding.location.file:
        place: dict[str, JsonValue] = {"artifactLocation": {"uri": quote(finding.location.file)}}
        if finding.location.line:
            column = {"startColumn": finding.location.column} if finding.location.column else {}
            place["region"] = {"startLine": finding.location.line, **column}
        result["locations"] = [{"physicalLocation": place}]
    if finding.properties:
        result["properties"] = finding.properties
    return result
