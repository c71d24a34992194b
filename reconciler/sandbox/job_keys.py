"""Keys that sign the tokens of jobs: made when they are needed, published, rotated. Both simulated issuers have them."""

from __future__ import annotations

from collections.abc import Mapping

from joserfc import jwt
from joserfc.jwk import RSAKey

ALGORITHM = "RS256"
_KEY_BITS = 2048


class JobKeys:
    """The keys of one issuer, the newest last."""

    def __init__(self) -> None:
        self._keys: list[RSAKey] = []

    def published(self) -> dict[str, object]:
        """Return the key set that everybody may read."""
        self._signing()
        return {"keys": [{**key.as_dict(private=False), "use": "sig", "alg": ALGORITHM} for key in self._keys]}

    def rotate(self, options: Mapping[str, object]) -> dict[str, object]:
        """Sign with a new key from now on; the last one stays published unless it is to be forgotten."""
        self._signing()
        self._keys = [*([] if options.get("forget") else self._keys[-1:]), _new_key()]
        return {"kid": self._keys[-1].kid}

    def signed(self, claims: dict[str, object]) -> dict[str, object]:
        """Return a token with ``claims``, and what it says."""
        key = self._signing()
        header = {"typ": "JWT", "alg": ALGORITHM, "kid": key.kid}
        return {"token": jwt.encode(header, claims, key, algorithms=[ALGORITHM]), "claims": claims}

    def _signing(self) -> RSAKey:
        """Return the newest key; the first is made when it is needed, for that takes a while."""
        if not self._keys:
            self._keys.append(_new_key())
        return self._keys[-1]


def _new_key() -> RSAKey:
    return RSAKey.generate_key(_KEY_BITS, auto_kid=True)
