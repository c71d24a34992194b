"""What looks like a credential: refused in manifests wherever it stands, and never repeated in a message. Pure."""

from __future__ import annotations

import re
from typing import Final

TOKENS: Final = re.compile(
    r"gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_[A-Za-z0-9_]{22,255}|gl(?:pat|dt|ptt|oas|rt|soat)-[A-Za-z0-9_-]{20,64}"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|do[opr]_v1_[a-f0-9]{64}|NRAK-[A-Z0-9]{27}|xox[abeprs]-[A-Za-z0-9-]{10,200}|xapp-[A-Za-z0-9-]{10,200}"
    r"|hooks\.slack\.com/services/[A-Za-z0-9/]{20,100}|dckr_pat_[A-Za-z0-9_-]{20,64}|hv[sb]\.[A-Za-z0-9_-]{24,200}|AGE-SECRET-KEY-1[A-Z0-9]{50,64}"
    r"|whsec_[A-Za-z0-9+/=]{24,100}|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----"
)


def harmless(text: str, limit: int = 64) -> str:
    """Return ``text`` as it may stand in a message: quoted, bounded, nothing invisible, and no credential."""
    if TOKENS.search(text):
        return "'…' (looks like a credential)"
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    return f"'{short}'" if short.isprintable() else ascii(short)
