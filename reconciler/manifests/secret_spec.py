"""The spec of a Secret: where each backend has the values. The rules of `reconciler.manifests.kinds` hold here too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from reconciler.model.specs import Credential, Reference, Spec


class DataSpec(Spec, frozen=True):
    env: str | None = None
    path: str | None = None


class VaultAuthSpec(Spec, frozen=True):
    use: Literal["oidc", "token", "approle"]
    role: str | None = None
    audience: str | None = None
    mount: str | None = None
    token: Credential | None = None
    role_id: str | None = None
    secret_id: Credential | None = None


class VaultFieldSpec(Spec, frozen=True):
    field: str | None = None


class VaultSpec(Spec, frozen=True):
    address: str
    path: str
    auth: VaultAuthSpec
    namespace: str | None = None
    mount: str = "secret"
    data: Mapping[str, VaultFieldSpec] | None = None


class SopsPathSpec(Spec, frozen=True):
    path: str


class SopsSpec(Spec, frozen=True):
    file: str
    data: Mapping[str, SopsPathSpec]


class CloudValueSpec(Spec, frozen=True):
    secret_id: str | None = None
    json_key: str | None = None
    parameter: str | None = None


class CloudSecretsSpec(Spec, frozen=True):
    integration: Reference
    data: Mapping[str, CloudValueSpec]


class LocalSpec(Spec, frozen=True):
    data: Mapping[str, str]


class SecretSpec(Spec, frozen=True):
    provider: Literal["env", "file", "vault", "sops", "aws", "local"]
    data: Mapping[str, DataSpec] = {}
    vault: VaultSpec | None = None
    sops: SopsSpec | None = None
    aws: CloudSecretsSpec | None = None
    local: LocalSpec | None = None

    @property
    def keys(self) -> frozenset[str] | None:
        """The keys of the Secret; None if the backend alone knows them."""
        block: VaultSpec | SopsSpec | CloudSecretsSpec | LocalSpec | None = getattr(self, self.provider, None)
        data: Mapping[str, object] | None = self.data if block is None else block.data
        return None if data is None else frozenset(data)


__all__ = ["SecretSpec"]
