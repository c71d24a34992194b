"""The options of a source, from the configuration."""

from __future__ import annotations

from pathlib import Path

from reconciler.config.settings import Config
from reconciler.source.options import SourceOptions, VerifyMode, VerifyOptions


def options_of(config: Config) -> SourceOptions:
    """Return section ``source`` of the configuration, with the keys of ``network`` that a source uses."""
    source, network = config.source, config.network
    verify = None
    if source.verify.mode or source.verify.allowed_signers_file:
        revoked = _path(source.verify.revocation_file)
        verify = VerifyOptions(
            Path(source.verify.allowed_signers_file), VerifyMode(source.verify.mode or "HEAD"), revoked, source.verify.principals
        )
    return SourceOptions(
        url=source.url,
        branch=source.branch,
        path=source.path,
        token_file=_path(source.token_file),
        ssh_key_file=_path(source.ssh_key_file),
        known_hosts_file=_path(source.known_hosts_file),
        require_fast_forward=source.require_fast_forward,
        allow_empty=source.allow_empty,
        allow_hosts=network.allow,
        verify=verify,
        config_name=config.file_name,
        ca_bundle=_path(network.ca_bundle),
        proxy=network.proxy,
    )


def _path(text: str) -> Path | None:
    return Path(text) if text else None
