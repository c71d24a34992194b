"""Decisions of IAM: identity policies and trust policies with their conditions. Pure.

Facts: IAM User Guide, "Policy evaluation logic", "IAM JSON policy elements: Condition operators". An operator that is not known here
fails loudly: a condition that is skipped would allow too much.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator
from typing import cast

from reconciler.sandbox.aws.records import AwsPrincipal, Context, Document, account_of
from reconciler.sandbox.shapes import is_object

Test = Callable[[str, str], bool]
_TESTS: dict[str, Test] = {
    "stringequals": lambda value, wanted: value == wanted,
    "stringequalsignorecase": lambda value, wanted: value.casefold() == wanted.casefold(),
    "stringlike": lambda value, wanted: _like(value, wanted),
    "arnequals": lambda value, wanted: _like(value, wanted),
    "arnlike": lambda value, wanted: _like(value, wanted),
    "bool": lambda value, wanted: value.casefold() == wanted.casefold(),
}
_NEGATED = {
    "stringnotequals": "stringequals",
    "stringnotequalsignorecase": "stringequalsignorecase",
    "stringnotlike": "stringlike",
    "arnnotequals": "arnequals",
    "arnnotlike": "arnlike",
}


class MalformedPolicy(ValueError):
    """The document is not one that IAM accepts."""


def allowed(policies: Iterable[Document], action: str, resource: str, context: Context) -> bool:
    """Whether identity policies allow ``action``: one statement allows it, and none denies it."""
    effects = {
        str(statement["Effect"])
        for policy in policies
        for statement in statements(policy)
        if _matches(statement.get("Action"), action, fold=True)
        and _matches(statement.get("Resource"), resource)
        and holds(statement.get("Condition"), context)
    }
    return effects == {"Allow"}


def trusts(policy: Document, action: str, principal: AwsPrincipal, context: Context) -> tuple[bool, bool]:
    """Return whether a trust policy accepts a principal of AWS, and whether it does so by its name, not only by its account."""
    effects, named = set(), False
    for statement in statements(policy):
        if not _matches(statement.get("Action"), action, fold=True) or not holds(statement.get("Condition"), context):
            continue
        who = set(_principals(statement.get("Principal"), "AWS"))
        by_name = bool(who & (principal.names | {"*"}))
        accounts = {each for each in who if each.isdigit() or each.endswith(":root")}
        by_account = any((each if each.isdigit() else account_of(each)) == principal.account for each in accounts)
        if by_name or by_account:
            effects.add(str(statement["Effect"]))
            named = named or by_name
    return effects == {"Allow"}, named


def trusts_token(policy: Document, provider: str, context: Context) -> bool:
    """Whether a trust policy accepts a token of the identity provider with the ARN ``provider``."""
    effects = {
        str(statement["Effect"])
        for statement in statements(policy)
        if _matches(statement.get("Action"), "sts:AssumeRoleWithWebIdentity", fold=True)
        and provider in _principals(statement.get("Principal"), "Federated")
        and holds(statement.get("Condition"), context)
    }
    return effects == {"Allow"}


def statements(policy: Document) -> Iterator[Document]:
    """Yield the statements of a policy. Raises `MalformedPolicy`."""
    found = policy.get("Statement")
    for statement in found if isinstance(found, list) else [found]:
        if not is_object(statement) or statement.get("Effect") not in {"Allow", "Deny"} or "Action" not in statement:
            raise MalformedPolicy("a statement needs Effect (Allow, Deny) and Action")
        if any(key.startswith("Not") for key in statement):
            raise MalformedPolicy("NotAction, NotPrincipal and NotResource are not part of this simulator")
        yield statement


def holds(condition: object, context: Context) -> bool:
    """Whether every key of every operator holds. Raises `MalformedPolicy` for an operator that is not known."""
    if condition is None:
        return True
    if not is_object(condition):
        raise MalformedPolicy("Condition is not an object")
    return all(
        _holds(operator, context.get(key.casefold()), list(_texts(wanted)))
        for operator, keys in condition.items()
        for key, wanted in cast("dict[str, object]", keys).items()
    )


def _holds(operator: str, values: list[str] | None, wanted: list[str]) -> bool:
    name = operator.casefold()
    if name == "null":
        return (values is None) == (wanted[0].casefold() == "true")
    every = name.startswith("forallvalues:")
    name = name.removeprefix("forallvalues:").removeprefix("foranyvalue:")
    optional, name = name.endswith("ifexists"), name.removesuffix("ifexists")
    negated = _NEGATED.get(name)
    test = _TESTS.get(negated or name)
    if test is None:
        raise MalformedPolicy(f"the operator {operator} is not part of this simulator")
    if values is None:
        return optional or every or negated is not None
    found = [any(test(value, each) for each in wanted) for value in values]
    if negated is not None:
        return not any(found)
    return all(found) if every else any(found)


def _principals(principal: object, kind: str) -> list[str]:
    if principal == "*":
        return ["*"]
    return list(_texts(principal.get(kind))) if is_object(principal) else []


def _matches(patterns: object, value: str, *, fold: bool = False) -> bool:
    return any(
        _like(value.casefold(), each.casefold()) if fold else _like(value, each)  # actions have no case
        for each in _texts(patterns)
    )


def _like(value: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(value, pattern.replace("[", "[[]"))


def _texts(value: object) -> Iterator[str]:
    for each in value if isinstance(value, list) else [value]:
        if each is not None:
            yield str(each).lower() if isinstance(each, bool) else str(each)
