"""The state of the AWS simulator, by type, and who may call it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TypedDict

ACCOUNT = "123456789012"
REGION = "us-east-1"
KEY_ID = "AKIASANDBOX234567ABC"
SECRET = "sandbox/secret+access+key+of+no+real+user"  # opens nothing but this simulator
USER = f"arn:aws:iam::{ACCOUNT}:user/ci"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/deploy"

Document = dict[str, object]
"""A policy document of IAM."""
Context = dict[str, list[str]]
"""Values of condition keys, names in lower case."""


class AwsKey(TypedDict):
    """A long-lived access key of a user."""

    user: str
    secret: str
    active: bool


class AwsUser(TypedDict):
    """A user, by ARN."""

    id: str
    policies: list[Document]


class AwsRole(TypedDict):
    """A role, by ARN. ``max_session_s``: its maximum session duration."""

    id: str
    trust: Document
    policies: list[Document]
    max_session_s: int


class AwsProvider(TypedDict):
    """An IAM OIDC identity provider, by ARN."""

    url: str
    client_ids: list[str]


class AwsSecret(TypedDict):
    """A secret, by ARN. ``versions``: id → ``text`` or ``binary`` (base64), and ``stages``."""

    name: str
    key: str
    deleted_at: float
    versions: dict[str, dict[str, object]]


class AwsParameter(TypedDict):
    """A parameter, by ARN. ``versions``: number → value; ``labels``: label → number."""

    name: str
    type: str
    key: str
    versions: dict[str, str]
    labels: dict[str, str]


class AwsRecords(TypedDict):
    """The whole state."""

    keys: dict[str, AwsKey]
    users: dict[str, AwsUser]
    roles: dict[str, AwsRole]
    providers: dict[str, AwsProvider]
    issuers: dict[str, str]
    secrets: dict[str, AwsSecret]
    parameters: dict[str, AwsParameter]


@dataclass(frozen=True, slots=True)
class AwsSession:
    """Short-lived credentials of a role."""

    key_id: str
    secret: str
    token: str
    ends_at: float
    role: str
    name: str

    @property
    def arn(self) -> str:
        """``arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION``."""
        partition, account = partition_of(self.role), account_of(self.role)
        return f"arn:{partition}:sts::{account}:assumed-role/{self.role.rpartition('/')[2]}/{self.name}"


@dataclass(frozen=True, slots=True)
class AwsPrincipal:
    """Who signed a request, in which region, and what its policies say."""

    arn: str
    user_id: str
    region: str
    policies: list[Document] = field(default_factory=list)
    role: str = ""
    """ARN of the role, if it is a session."""

    @property
    def account(self) -> str:
        """The account of the principal."""
        return account_of(self.arn)

    @property
    def names(self) -> frozenset[str]:
        """What a trust policy may call it, besides its account."""
        return frozenset({self.arn, self.role} - {""})

    @property
    def context(self) -> Context:
        """Condition keys of the principal."""
        return {"aws:principalarn": [self.role or self.arn], "aws:principalaccount": [self.account]}


def partition_of(arn: str) -> str:
    """Return ``aws``, ``aws-cn`` and so on."""
    return arn.split(":")[1]


def account_of(arn: str) -> str:
    """Return the account in an ARN."""
    return arn.split(":")[4]


def is_role(arn: str) -> bool:
    """Whether ``arn`` has the form of a role's."""
    return bool(re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,512}", arn))
