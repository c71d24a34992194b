"""Errors of a source. After each of them the last good revision stays in force and the mirror stays usable."""

from __future__ import annotations

from reconciler.model.errors import SourceError


class SourceUnreachable(SourceError):
    """Refused, name not found, TLS, 5xx: retried automatically (C1)."""

    code = "RC2002"


class SourceAuthFailed(SourceError):
    """The remote refused the credential, or requires one."""

    code = "RC2003"


class BranchGone(SourceError):
    """The branch does not exist at the remote, which is not the same as an empty one (C4)."""

    code = "RC2004"


class SourceEmpty(SourceError):
    """The revision has no manifests, and ``source.allowEmpty`` is off (C5)."""

    code = "RC2005"


class PathGone(SourceError):
    """``source.path`` is not a folder in this revision (C5)."""

    code = "RC2006"


class TreeRefused(SourceError):
    """Objects that the check of Git refuses: ``..``, ``.git`` and equivalent names (C11)."""

    code = "RC2007"


class SourceTimeout(SourceError):
    """The deadline passed; all processes of the attempt were killed (C2)."""

    code = "RC2008"


class SourceTooLarge(SourceError):
    """A limit was exceeded: file, revision or mirror (C8)."""

    code = "RC2009"


class NotFastForward(SourceError):
    """History was rewritten and ``source.requireFastForward`` is on (C3)."""

    code = "RC2010"


class SourceOwnership(SourceError):
    """The repository folder belongs to another user (C23)."""

    code = "RC2011"


class HostKeyRefused(SourceError):
    """The SSH host key is not the one in ``knownHostsFile``."""

    code = "RC2012"


class LfsPointer(SourceError):
    """A manifest is a Git LFS pointer, whose file is never fetched (C10)."""

    code = "RC2013"


class SignatureRefused(SourceError):
    """The revision does not satisfy ``source.verify`` (C21, C22)."""

    code = "RC2014"


class RefUnknown(SourceError):
    """No such branch, tag or commit."""

    code = "RC2016"


class SourceMoved(SourceError):
    """The remote answered with a redirect, which is never followed."""

    code = "RC2017"


class MirrorDamaged(SourceError):
    """The files of the mirror cannot be read. The source handles it by cloning the mirror again (A9)."""

    code = "RC2018"
