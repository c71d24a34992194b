"""Secrets Manager and the Parameter Store of Systems Manager: reads only, with identity policies and keys of KMS.

Facts: API references of both services: DescribeSecret, GetSecretValue, GetParameter, GetParameters.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping

from reconciler.sandbox.app import Reply
from reconciler.sandbox.aws.policies import allowed
from reconciler.sandbox.aws.records import AwsParameter, AwsPrincipal, AwsRecords, AwsSecret, partition_of
from reconciler.sandbox.aws.replies import Refuse, json_reply
from reconciler.sandbox.shapes import is_object, texts

MOST_NAMES = 10
CURRENT = "AWSCURRENT"


class Stores:
    """The actions of both services, over the state of the simulator."""

    def __init__(self, records: Callable[[], AwsRecords]) -> None:
        self._records = records
        self.actions: Mapping[str, Callable[[AwsPrincipal, Mapping[str, object], Refuse], Reply]] = {
            "secretsmanager.DescribeSecret": self._describe,
            "secretsmanager.GetSecretValue": self._value,
            "AmazonSSM.GetParameter": self._one_parameter,
            "AmazonSSM.GetParameters": self._parameters,
        }

    # -- Secrets Manager --------------------------------------------------------------------------------------------

    def _describe(self, principal: AwsPrincipal, fields: Mapping[str, object], refuse: Refuse) -> Reply:
        arn, secret = self._secret(principal, fields, "secretsmanager:DescribeSecret", refuse)
        body: dict[str, object] = {
            "ARN": arn,
            "Name": secret["name"],
            "VersionIdsToStages": {number: version["stages"] for number, version in secret["versions"].items()},
        }
        if secret["deleted_at"]:
            body["DeletedDate"] = secret["deleted_at"]
        return json_reply(body)

    def _value(self, principal: AwsPrincipal, fields: Mapping[str, object], refuse: Refuse) -> Reply:
        arn, secret = self._secret(principal, fields, "secretsmanager:GetSecretValue", refuse)
        if secret["deleted_at"]:
            text = "You can't perform this operation on the secret because it was marked for deletion."
            refuse(400, "InvalidRequestException", text)
        wanted = str(fields.get("VersionStage") or CURRENT)
        number = str(fields.get("VersionId") or "")
        found = next(
            (
                (key, version)
                for key, version in secret["versions"].items()
                if key == number or (not number and wanted in texts(version["stages"]))
            ),
            None,
        )
        if found is None:
            text = f"Secrets Manager can't find the specified secret value for staging label: {wanted}"
            refuse(400, "ResourceNotFoundException", text)
        if not self._decrypts(principal, secret["key"]):
            refuse(400, "AccessDenied", "Access to KMS is not allowed")
        key, version = found
        kind = "SecretBinary" if "binary" in version else "SecretString"
        value = version["binary"] if "binary" in version else version["text"]
        return json_reply({"ARN": arn, "Name": secret["name"], "VersionId": key, "VersionStages": version["stages"], kind: value})

    def _secret(
        self, principal: AwsPrincipal, fields: Mapping[str, object], action: str, refuse: Refuse
    ) -> tuple[str, AwsSecret]:
        name = fields.get("SecretId")
        if not isinstance(name, str) or not 1 <= len(name) <= 2048:
            refuse(400, "ValidationError", "1 validation error detected: Value at 'secretId' failed to satisfy constraint")
        found = next(
            (
                (arn, row)
                for arn, row in self._records()["secrets"].items()
                if arn.split(":")[3] == principal.region
                and (name in {arn, arn.rpartition("-")[0]} or (row["name"] == name and arn.split(":")[4] == principal.account))
            ),
            None,
        )
        arn = found[0] if found is not None else self._arn("secretsmanager", principal, f"secret:{name}-??????")
        self._permitted(principal, action, arn, name, refuse)
        if found is None:
            refuse(400, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
        return found

    # -- Parameter Store --------------------------------------------------------------------------------------------

    def _one_parameter(self, principal: AwsPrincipal, fields: Mapping[str, object], refuse: Refuse) -> Reply:
        name = fields.get("Name")
        if not isinstance(name, str) or not 1 <= len(name) <= 2048:
            refuse(400, "ValidationError", "1 validation error detected: Value at 'name' failed to satisfy constraint")
        shown = self._parameter(principal, name, "ssm:GetParameter", fields, refuse)
        if shown is None:
            refuse(400, "ParameterNotFound", "")
        if shown == {}:
            refuse(400, "ParameterVersionNotFound", f"Systems Manager could not find version of {name}.")
        return json_reply({"Parameter": shown})

    def _parameters(self, principal: AwsPrincipal, fields: Mapping[str, object], refuse: Refuse) -> Reply:
        names = fields.get("Names")
        if not isinstance(names, list) or not 1 <= len(names) <= MOST_NAMES:
            refuse(400, "ValidationError", "Member must have length less than or equal to 10")
        rows = {str(name): self._parameter(principal, str(name), "ssm:GetParameters", fields, refuse) for name in names}
        return json_reply(
            {
                "Parameters": [row for row in rows.values() if row],
                "InvalidParameters": [name for name, row in rows.items() if not row],
            }
        )

    def _parameter(
        self, principal: AwsPrincipal, name: str, action: str, fields: Mapping[str, object], refuse: Refuse
    ) -> dict[str, object] | None:
        """Return a parameter as an answer shows it; None without one, empty without the version that a selector names."""
        plain, selector = self._split(name)
        path = plain if plain.startswith("arn:") else ""
        arn = path or self._arn("ssm", principal, f"parameter/{plain.removeprefix('/')}")
        self._permitted(principal, action, arn, arn, refuse)
        row = self._records()["parameters"].get(arn)
        if row is None or arn.split(":")[3] != principal.region:
            return None
        number = self._number(row, selector)
        if number not in row["versions"]:
            return {}
        value, secure = row["versions"][number], row["type"] == "SecureString"
        if secure and fields.get("WithDecryption") is True:
            if not self._decrypts(principal, row["key"]):
                text = f"User: {principal.arn} is not authorized to perform: kms:Decrypt on resource: {row['key']}"
                refuse(400, "AccessDenied", text)
        elif secure:
            value = base64.b64encode(f"sealed {arn} {number}".encode()).decode()
        shown: dict[str, object] = {"Name": row["name"], "Type": row["type"], "Value": value, "Version": int(number), "ARN": arn}
        return shown | ({"Selector": f":{selector}"} if selector else {})

    @staticmethod
    def _split(name: str) -> tuple[str, str]:
        match = re.fullmatch(r"(arn:[^:]+:ssm:[^:]+:\d+:parameter/[^:]+|[^:]+)(?::([^:]+))?", name)
        return (match[1], match[2] or "") if match else (name, "")

    @staticmethod
    def _number(row: AwsParameter, selector: str) -> str:
        if not selector:
            return max(row["versions"], key=int)
        return selector if selector.isdigit() else row["labels"].get(selector, "")

    # -- rights -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _arn(service: str, principal: AwsPrincipal, name: str) -> str:
        return f"arn:{partition_of(principal.arn)}:{service}:{principal.region}:{principal.account}:{name}"

    @staticmethod
    def _permitted(principal: AwsPrincipal, action: str, arn: str, shown: str, refuse: Refuse) -> None:
        if not allowed(principal.policies, action, arn, principal.context):
            refuse(
                400,
                "AccessDenied",
                f"User: {principal.arn} is not authorized to perform: {action} on resource: {shown} because no identity-based policy "
                f"allows the {action} action",
            )

    @staticmethod
    def _decrypts(principal: AwsPrincipal, key: str) -> bool:
        """Whether the principal may decrypt with ``key``; empty is the key of AWS itself, which everyone in the account may use."""
        return not key or allowed(principal.policies, "kms:Decrypt", key, principal.context)


def fields_of(value: object, refuse: Refuse) -> Mapping[str, object]:
    """Return the JSON object of a request."""
    if not is_object(value):
        refuse(400, "SerializationException", "The request is not a JSON object")
    return value
