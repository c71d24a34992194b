"""The error of a failed ``git fetch``, from the text that Git prints (in English, by LC_ALL=C). Pure."""

from __future__ import annotations

import re

from reconciler.model.errors import SourceError
from reconciler.source.errors import (
    BranchGone,
    HostKeyRefused,
    MirrorDamaged,
    SourceAuthFailed,
    SourceMoved,
    SourceUnreachable,
    TreeRefused,
)
from reconciler.source.runner import GitResult

# The first match counts, so that specific rules come first.
_RULES: tuple[tuple[re.Pattern[str], type[SourceError], str, str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE | re.MULTILINE), kind, message, hint)
    for pattern, kind, message, hint in (
        (
            r"couldn't find remote ref",
            BranchGone,
            "branch {branch} does not exist at the remote",
            "Nothing is deleted. Restore the branch, or name the new one in source.branch; check that a Git server answers.",
        ),
        (
            r"fsck error|error in (tree|commit|tag|blob) [0-9a-f]{40}|contains '\.git'|hasDot",
            TreeRefused,
            "Git's check refused objects of the revision: {reason}",
            "Remove them from the history of the branch; the revision was not read.",
        ),
        (
            r"Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED|No .* host key is known",
            HostKeyRefused,
            "the SSH host key is not the one in source.auth.knownHostsFile",
            "If the provider changed its key, compare the new key with the published one, then replace the line.",
        ),
        (
            r"Authentication failed|could not read (Username|Password)|terminal prompts disabled|error: 40[13]|"
            r"Permission denied \(|returned error: 40[13]|Load key .*: ",
            SourceAuthFailed,
            "the remote refused the credential: {reason}",
            "Check source.auth: the token or key must be valid and may read the repository.",
        ),
        (
            r"error: 30[12378]|unable to update url base from redirection",
            SourceMoved,
            "the remote answers with a redirect, which is not followed",
            "Write the repository's new address into source.url.",
        ),
        (
            r"repository '.*' not found|returned error: 404|does not appear to be a git repository|Repository not found",
            SourceUnreachable,
            "the repository was not found, or the credential may not see it",
            "Check source.url and source.auth.",
        ),
        (
            r"index-pack died|inflate|bad object|is corrupt|corrupted|missing (blob|tree|commit)|not a git repository|"
            r"unable to read (tree|sha1)|does not match index|loose object|bad config|invalid sha1 pointer|"
            r"packfile .* (cannot|is far)|unable to (find|parse)|unresolved deltas|refs? .*broken|"
            r"cannot lock ref|did not send all necessary objects|unable to create",
            MirrorDamaged,
            "the mirror is damaged: {reason}",
            "",
        ),
        (
            r"Could not resolve host|Failed to connect|Connection (refused|reset|timed out|closed)|"
            r"timed? ?out|Operation too slow|"
            r"returned error: 5\d\d|error: 5\d\d|SSL|certificate|TLS|early EOF|hung up|unexpected disconnect|"
            r"RPC failed|Empty reply|"
            r"Network is unreachable|No route to host|unable to access|Could not read from remote|protocol error|bad line length|"
            r"not valid: is this a git repository|expected .* got",
            SourceUnreachable,
            "the remote cannot be read: {reason}",
            "It is retried automatically; the last good revision stays in force.",
        ),
    )
)


def error_of(result: GitResult, branch: str, *, mirror_is_whole: bool = False) -> SourceError | None:
    """Return the error of a failed fetch, or None for an unknown text.

    `MirrorDamaged` is a suspicion, since a remote can cause the same text: check the mirror, then call with ``mirror_is_whole``.
    """
    # Text of the remote itself must not determine the class.
    own = "\n".join(line for line in result.stderr.splitlines() if not line.startswith("remote:"))
    for pattern, kind, message, hint in _RULES:
        if pattern.search(own) and not (mirror_is_whole and kind is MirrorDamaged):
            return kind(message.format(branch=branch, reason=result.reason), hint=hint)
    return None
