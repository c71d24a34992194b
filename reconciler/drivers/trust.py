"""Trust policies for the providers that accept our ID tokens, ready to paste at the provider.

Facts: AWS IAM (OIDC identity providers, trust policy condition keys), Microsoft Graph federatedIdentityCredential, Google workload
identity federation (google.subject has at most 127 bytes), Vault and OpenBao JWT auth method, Buddy identity providers.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import SplitResult, urlsplit

from reconciler.drivers.azure.spec import cloud_at
from reconciler.drivers.specs import spec_of
from reconciler.model.errors import UsageError

_POOL = re.compile(
    r"(?://iam\.googleapis\.com/)?projects/(?P<project>[^/]+)/locations/global/workloadIdentityPools/(?P<pool>[^/]+)/providers/(?P<provider>[^/]+)"
)
_NAME = re.compile(r"[^A-Za-z0-9-]+")


@dataclass(frozen=True, slots=True)
class TrustRequest:
    """Who is to be trusted. ``settings`` is the ``auth.oidc`` (or ``vault``) block of the manifest."""

    issuer: str
    subject: str
    audience: str
    settings: Mapping[str, object]

    def text(self, key: str, placeholder: str) -> str:
        """Return a text of the settings, or ``placeholder``, which a person has to replace."""
        value = self.settings.get(key)
        return str(value) if value else placeholder


@dataclass(frozen=True, slots=True)
class Trust:
    """The policy as data, and the commands that install it."""

    policy: Mapping[str, object]
    commands: tuple[str, ...]


def aws(request: TrustRequest) -> Trust:
    """Return the trust policy of an IAM role. Raises `UsageError` for an issuer that AWS refuses: not https, or with a port."""
    parts = _https(request.issuer, "AWS")
    if parts.port is not None:
        raise UsageError(
            f"AWS accepts only an issuer without a port, not {request.issuer}",
            code="RC4052",
            hint="Set `oidc.issuer` to an address on port 443, and publish the files of `reconciler oidc export DIR` there.",
        )
    name = parts.netloc + parts.path
    role = request.text("roleArn", "arn:aws:iam::ACCOUNT:role/ROLE")
    partition, account = (*role.split(":"), "", "", "", "", "")[1:5:3]
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Federated": f"arn:{partition}:iam::{account}:oidc-provider/{name}"},
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": {"StringEquals": {f"{name}:aud": request.audience, f"{name}:sub": request.subject}},
            }
        ],
    }
    role_name = role.rpartition("/")[2]
    return Trust(
        policy,
        (
            _command(
                "aws", "iam", "create-open-id-connect-provider", "--url", request.issuer, "--client-id-list", request.audience
            ),
            _command(
                "aws", "iam", "update-assume-role-policy", "--role-name", role_name, "--policy-document", "file://policy.json"
            ),
        ),
    )


def azure(request: TrustRequest) -> Trust:
    """Return a federated credential of an application. Azure compares issuer, subject and audience exactly."""
    _https(request.issuer, "Azure")
    digest = hashlib.sha256(request.subject.encode()).hexdigest()[:12]
    policy = {
        "name": f"{_NAME.sub('-', request.subject).strip('-')[:100]}-{digest}",  # at most 120 characters, unique in the application
        "issuer": request.issuer,
        "subject": request.subject,
        "audiences": [request.audience],
    }
    client = request.text("clientId", "APPLICATION")
    return Trust(
        policy,
        (_command("az", "ad", "app", "federated-credential", "create", "--id", client, "--parameters", "@policy.json"),),
    )


def google(request: TrustRequest) -> Trust:
    """Return the provider of a workload identity pool, and who may impersonate the service account."""
    _https(request.issuer, "Google")
    match = _POOL.fullmatch(request.text("workloadIdentityProvider", ""))
    project, pool, provider = match.group("project", "pool", "provider") if match else ("PROJECT_NUMBER", "POOL", "PROVIDER")
    condition = f"assertion.sub == '{_cel(request.subject)}'"
    policy = {
        "oidc": {"issuerUri": request.issuer, "allowedAudiences": [request.audience]},
        "attributeMapping": {"google.subject": "assertion.sub"},
        "attributeCondition": condition,
    }
    create = _command(
        *("gcloud", "iam", "workload-identity-pools", "providers", "create-oidc", provider),
        *("--project", project, "--location", "global", "--workload-identity-pool", pool, "--issuer-uri", request.issuer),
        *("--allowed-audiences", request.audience, "--attribute-mapping", "google.subject=assertion.sub"),
        *("--attribute-condition", condition),
    )
    account = str(request.settings.get("serviceAccount") or "")
    if not account:
        return Trust(policy, (create,))
    member = f"principal://iam.googleapis.com/projects/{project}/locations/global/workloadIdentityPools/{pool}/subject/{request.subject}"
    bind = _command(
        *("gcloud", "iam", "service-accounts", "add-iam-policy-binding", account),
        *("--role", "roles/iam.workloadIdentityUser", "--member", member),
    )
    return Trust(policy, (create, bind))


def vault(request: TrustRequest) -> Trust:
    """Return a role of the JWT auth method of Vault or OpenBao. A token with an audience needs ``bound_audiences``."""
    role, method = request.text("role", "ROLE"), request.text("authMount", "jwt").strip("/")
    policy_name, *rules = _read_policy(request)
    policy = {
        "role_type": "jwt",
        "user_claim": "sub",
        "bound_audiences": [request.audience],
        "bound_subject": request.subject,
        "token_ttl": "60s",
        "token_policies": [policy_name],
    }
    where = [f"-namespace={request.settings['namespace']}"] if request.settings.get("namespace") else []
    commands = (
        _command("bao", "auth", "enable", *where, *([f"-path={method}"] if method != "jwt" else []), "jwt"),
        _command(
            *("bao", "write", *where, f"auth/{method}/config"),
            *(f"oidc_discovery_url={request.issuer}", f"bound_issuer={request.issuer}"),
        ),
        *(f"{_command('printf', '%s', rule)} | {_command('bao', 'policy', 'write', *where, policy_name, '-')}" for rule in rules),
        _command("bao", "write", *where, f"auth/{method}/role/{role}", "@policy.json"),
    )
    return Trust(policy, commands)


def _read_policy(request: TrustRequest) -> tuple[str, ...]:
    """Return the name and the rule of a policy that may read what the manifest names; only a placeholder if it names nothing."""
    mount, path = (str(request.settings.get(key) or "").strip("/") for key in ("mount", "path"))
    if not path:
        return ("POLICY",)
    name = _NAME.sub("-", f"reconciler-{mount}-{path}").strip("-").lower()[:100]
    return name, f'path {json.dumps(f"{mount}/data/{path}")} {{ capabilities = ["read"] }}'


def buddy(request: TrustRequest) -> Trust:
    """Return the identity provider of a Buddy workspace, which is set up on its settings page."""
    policy = {
        "issuer": request.issuer,
        "audience": request.audience,
        "trust_conditions": [{"key": "sub", "value": request.subject}],
    }
    return Trust(policy, ("# Workspace settings > Identity provider > Add > Other: enter the values of policy.json.",))


def default_audience(party: str, settings: Mapping[str, object]) -> str:
    """Return the audience that ``party`` expects where the manifest names none.

    ``settings`` may have the ``url`` of the Integration: each cloud of Azure has an audience of its own.
    """
    if party == "vault":
        return str(settings.get("address") or "vault")
    if party == "azure":
        return cloud_at(str(settings.get("url") or "")).audience
    provider = str(settings.get("workloadIdentityProvider") or _ANY_PROVIDER).removeprefix("https:")
    return spec_of(party).audience.format(workloadIdentityProvider=provider.removeprefix("//iam.googleapis.com/"))


_ANY_PROVIDER = "projects/PROJECT_NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER"

PROVIDERS: Mapping[str, Callable[[TrustRequest], Trust]] = MappingProxyType(
    {"aws": aws, "azure": azure, "google": google, "vault": vault, "buddy": buddy}
)


def _https(issuer: str, party: str) -> SplitResult:
    parts = urlsplit(issuer)
    if parts.scheme != "https":
        raise UsageError(
            f"{party} accepts only an https issuer, not {issuer}",
            code="RC4052",
            hint="Set `oidc.issuer` to an https address, and publish the files of `reconciler oidc export DIR` there.",
        )
    return parts


def _command(*words: str) -> str:
    return shlex.join(words)


def _cel(text: str) -> str:
    """Return ``text`` for a CEL string literal in single quotes."""
    return json.dumps(text, ensure_ascii=False)[1:-1].replace("'", "\\'")


__all__ = ["PROVIDERS", "Trust", "TrustRequest", "aws", "azure", "buddy", "default_audience", "google", "vault"]
