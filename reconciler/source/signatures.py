"""The signature check: Git must verify a revision against the configured list of allowed signers."""

from __future__ import annotations

import re

from reconciler.source.errors import SignatureRefused
from reconciler.source.objects import ObjectReader
from reconciler.source.options import VerifyMode, VerifyOptions
from reconciler.source.runner import ProcessResult

_GOOD = re.compile(r'^Good "git" signature for (?P<principal>\S+) with ', re.MULTILINE)
_MAX_RANGE = 10_000


async def verify(reader: ObjectReader, options: VerifyOptions, commit: str, base: str | None) -> str:
    """Return the principal that signed ``commit``; in mode Range every commit since ``base`` must be signed too.

    Raises `SignatureRefused`, also if the lists cannot be read. Without a base (the first fetch) only the head is verified, and is
    then the root of trust.
    """
    if not options.allowed_signers_file.is_file():
        raise SignatureRefused(
            f"source.verify.allowedSignersFile {options.allowed_signers_file} is not a file",
            hint="See ssh-keygen(1), ALLOWED SIGNERS.",
        )
    if options.revocation_file is not None and not options.revocation_file.is_file():
        raise SignatureRefused(
            f"the revocation list {options.revocation_file} is not a file", hint="See ssh-keygen(1), KEY REVOCATION LISTS."
        )
    signer = await _verify_commit(reader, options, commit)
    if options.mode is VerifyMode.RANGE and base is not None and base != commit:
        for since in await _range(reader, base, commit):
            await _verify_commit(reader, options, since)
    return signer


async def _range(reader: ObjectReader, base: str, commit: str) -> list[str]:
    listed = await reader.git("rev-list", f"--max-count={_MAX_RANGE + 1}", commit, f"^{base}")
    commits = listed.text.split()
    if listed.returncode or len(commits) > _MAX_RANGE:
        raise SignatureRefused(f"the commits since {base[:12]} cannot be listed, or are more than {_MAX_RANGE:,}")
    return [other for other in commits if other != commit]


async def _verify_commit(reader: ObjectReader, options: VerifyOptions, commit: str) -> str:
    config = {
        "gpg.format": "ssh",
        "gpg.ssh.program": "ssh-keygen",
        "gpg.program": "/bin/false",
        "gpg.x509.program": "/bin/false",
        "gpg.ssh.allowedSignersFile": str(options.allowed_signers_file),
        "gpg.minTrustLevel": "fully",
    }
    if options.revocation_file is not None:
        config["gpg.ssh.revocationFile"] = str(options.revocation_file)
    result = await reader.runner.run(
        reader.git_dir, "verify-commit", "--raw", commit, run=ProcessResult(deadline_s=reader.deadline_s, config=config)
    )
    match = _GOOD.search(result.stderr)
    # Git prints "Good signature" for unknown and expired keys too, so that exit status 0 and a principal are both required.
    if result.returncode or match is None:
        raise SignatureRefused(
            f"commit {commit[:12]} is not signed by an allowed signer",
            hint="Sign it (git commit -S) with a key that source.verify allows.",
        )
    principal = match["principal"]
    if options.principals and principal not in options.principals:
        raise SignatureRefused(f"commit {commit[:12]} is signed by {principal}, who is not among source.verify's principals")
    return principal
