"""Secrets in a simulated AWS while the daemon runs: it opens them with its own ID token; rotation, refusals and kills."""

from __future__ import annotations

import secrets
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.sandbox.aws.app import Aws
from reconciler.sandbox.aws.records import ACCOUNT, KEY_ID, REGION, SECRET, USER
from reconciler.sandbox.server import SandboxServer
from tests.aws.cloud import READS, allow, document, role
from tests.engine.world import TOKENS, World

ROLE = f"arn:aws:iam::{ACCOUNT}:role/reconciler"
SUBJECT = "reconciler:team-a:default:Integration:cloud"
ARN = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:ci-AbCdEf"
MINUTE_S = 15.0
"""How long a minute lasts for the daemons; several intervals, so that a request too many is seen."""
HUB = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/ci/hub"


class Cloudy(World):
    """A world whose secrets are in AWS. Buddy has one object with a secret value."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, ("github", "buddy"))
        self.aws = self.servers["aws"] = self._stack.enter_context(SandboxServer(Aws()))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.issuer = f"http://127.0.0.1:{free.getsockname()[1]}"
        self.first = f"canary-{secrets.token_hex(12)}"
        self.configure(server=f'{{listen: "{self.issuer.removeprefix("http://")}", publicUrl: "{self.issuer}"}}')
        self.cloud(f"{{use: oidc, oidc: {{audience: sts.amazonaws.com, roleArn: '{ROLE}'}}}}")
        self.write("secrets.yaml", "\n---\n".join(self.secrets()))
        self.repos("payments")
        self.source("payments")
        self.write(
            "hub.yaml",
            "kind: BuddyIntegration\nmetadata: {name: hub}\nspec:\n  integration: {name: buddy}\n  workspace: acme\n  type: GIT_LAB\n"
            "  name: hub\n  scope: WORKSPACE\n  auth_type: TOKEN\n  token: {valueFrom: {secret: {name: hub, key: token}}}",
        )
        text = f'{{"github": "{TOKENS["github"]}", "buddy": "{TOKENS["buddy"]}"}}'
        versions = {"v1": {"text": text, "stages": ["AWSCURRENT"]}}
        parameter = {"name": "/ci/hub", "type": "SecureString", "key": "", "versions": {"1": self.first}, "labels": {}}
        self.aws.admin.put_state(
            {
                "secrets": {ARN: {"name": "ci", "key": "", "deleted_at": 0, "versions": versions}},
                "parameters": {HUB: parameter},
                "roles": {ROLE: role(self.trust("not yet"), *READS)},
                "users": {USER: {"policies": [allow(*READS)]}},
                "providers": {
                    f"arn:aws:iam::{ACCOUNT}:oidc-provider/x": {"url": self.issuer, "client_ids": ["sts.amazonaws.com"]}
                },
            }
        )

    def cloud(self, auth: str) -> None:
        self.write(
            "cloud.yaml",
            f"kind: Integration\nmetadata: {{name: cloud}}\nspec: {{type: aws, apiUrl: '{self.aws.url}', auth: {auth}}}",
        )

    def secrets(self) -> Iterator[str]:
        for name, data in (
            ("github", "{token: {secretId: ci, jsonKey: github}}"),
            ("buddy", "{token: {secretId: ci, jsonKey: buddy}}"),
            ("hub", "{token: {parameter: /ci/hub}}"),
        ):
            yield f"kind: Secret\nmetadata: {{name: {name}}}\nspec: {{provider: aws, aws: {{integration: {{name: cloud}}, data: {data}}}}}"

    def trust(self, subject: str = SUBJECT) -> dict[str, Any]:
        statement = {
            "Effect": "Allow",
            "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/x"},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringEquals": {f"{self.issuer}:aud": "sts.amazonaws.com", f"{self.issuer}:sub": subject}},
        }
        return document(statement)

    def patch_role(self, **fields: Any) -> None:
        self.aws.admin.put_state({"roles": {ROLE: fields}})

    def stalled(self, kind: str, name: str, words: str) -> bool:
        condition = self.condition(kind, name, "Stalled")
        return condition is not None and condition["status"] == "True" and words in condition["message"]

    def again(self) -> None:
        """Reconcile as a person asks for it: AWS is then asked at once."""
        for name in ("cloud", "github", "buddy"):
            done = self.cli("reconcile", f"Integration/{name}", "--wait")
            assert done.returncode in {0, 1}, f"{done.returncode} {done.stdout}{done.stderr}"

    def pushed(self) -> int:
        return len(self.writes("buddy"))

    def canaries(self, *values: str) -> list[str]:
        verbs = (("status",), ("plan",), ("logs",), ("history", "EventSource/payments"), ("credentials",))
        shown = "".join(done.stdout + done.stderr for done in (self.cli(*verb) for verb in verbs))
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        leaked = [f"{path}: {value}" for path in files for value in values if value.encode() in path.read_bytes()]
        return leaked + [value for value in values if value in shown]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Cloudy]:
    made = Cloudy(tmp_path)
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_daemon_opens_secrets_in_aws_as_itself_and_a_rotated_one_is_used_without_a_restart(world: Cloudy) -> None:
    world.hurry(MINUTE_S)
    process = world.daemon()
    world.wait(lambda: world.stalled("EventSource", "payments", f"sub is {SUBJECT}"), "no trust yet")
    assert "Secret/github key 'token'" in str(world.condition("EventSource", "payments", "Stalled"))
    time.sleep(6)  # three intervals
    refused = [row for row in world.requests("aws") if row["status"] == 403]
    assert len(refused) == 1
    assert world.writes() == world.writes("buddy") == []
    world.patch_role(trust=world.trust())
    world.again()
    world.wait(world.all_ready, "all opened")
    assert (len(world.hooks("payments")), world.pushed()) == (1, 1)

    # Rotated at AWS: within a minute, without a command, and written once.
    world.forget_requests("buddy")
    second = f"canary-{secrets.token_hex(12)}"
    world.aws.admin.do("put_parameter", arn=HUB, value=second)
    world.wait(lambda: world.pushed() == 1, "the new value", 75)
    world.again()
    assert world.pushed() == 1

    # A value that changes while nobody runs, and a kill before and after its write.
    process.send_signal(signal.SIGKILL)
    process.wait()
    third = f"canary-{secrets.token_hex(12)}"
    world.aws.admin.do("put_parameter", arn=HUB, value=third)
    world.forget_requests("buddy")
    process = world.daemon()
    world.wait(lambda: world.pushed() == 1, "the third value")
    process.send_signal(signal.SIGKILL)
    process.wait()
    process = world.daemon()
    world.again()
    world.wait(world.all_ready, "after the kill")
    written = world.pushed()
    assert written <= 2  # the answer of the write may have been lost with the process
    process.send_signal(signal.SIGKILL)
    process.wait()
    world.daemon()
    world.again()
    assert world.pushed() == written
    assert world.canaries(TOKENS["github"], TOKENS["buddy"], world.first, second, third) == []


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_what_aws_refuses_or_lacks_stalls_what_uses_it_and_touches_nothing(world: Cloudy) -> None:
    world.hurry(MINUTE_S)
    world.patch_role(trust=world.trust())
    world.daemon()
    world.wait(world.all_ready, "all opened")
    policy = [allow(*READS)]

    def fails(words: str) -> None:
        world.set_hooks("payments", [])
        world.again()
        world.forget_requests()
        world.again()
        for kind, name in (("Secret", "github"), ("Integration", "github"), ("EventSource", "payments")):
            world.wait(lambda kind=kind, name=name: world.stalled(kind, name, words), f"{kind} {words}")
            assert "Secret/github key 'token'" in str(world.condition(kind, name, "Stalled"))
        assert world.requests() == []

    def recovers() -> None:
        world.again()
        world.wait(lambda: len(world.hooks("payments")) == 1, "the hook is made again")
        world.wait(world.all_ready, "it recovers")

    secret = world.aws.admin.state()["secrets"][ARN]
    world.aws.admin.put_state({"secrets": {ARN: None}})
    fails("the secret 'ci' in AWS Secrets Manager does not exist")
    world.aws.admin.put_state({"secrets": {ARN: secret}})
    recovers()
    world.patch_role(policies=[allow("ssm:*")])
    fails("may not be read (AccessDeniedException")
    world.patch_role(policies=policy)
    recovers()
    world.aws.admin.fault(times=0, status=400, body={"__type": "ThrottlingException", "message": "Rate exceeded"})
    fails("AWS limits the rate")
    world.aws.admin.clear_faults()
    world.wait(lambda: len(world.hooks("payments")) == 1, "the hook is made again", 90)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_rotated_access_key_is_used_at_once_and_never_shown(world: Cloudy) -> None:
    value = "{{valueFrom: {{secret: {{name: keys, key: {}}}}}}}"
    world.cloud(f"{{use: access-key, accessKey: {{id: {value.format('id')}, secret: {value.format('secret')}}}}}")
    folder = world.folder / "secrets"
    folder.mkdir(exist_ok=True)
    (folder / "id").write_text(KEY_ID)
    (folder / "secret").write_text("wrong")
    world.write(
        "keys.yaml",
        "kind: Secret\nmetadata: {name: keys}\nspec: {provider: file, data: {id: {path: id}, secret: {path: secret}}}",
    )
    world.configure(secrets=f"{{folder: '{folder}'}}")
    world.daemon()
    world.wait(lambda: world.stalled("EventSource", "payments", "refused the signature"), "a wrong key")
    assert world.writes() == world.writes("buddy") == []
    time.sleep(6)  # three intervals, with four manifests that need the key
    assert len([row for row in world.requests("aws") if row["status"] != 200]) == 1
    (folder / "secret").write_text(SECRET)
    world.wait(world.all_ready, "the right key, without a command", 40)
    assert world.pushed() == 1
    (folder / "secret").unlink()
    assert world.canaries(SECRET, TOKENS["github"], world.first) == []
