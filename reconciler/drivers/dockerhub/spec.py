"""Docker Hub, as data."""

from reconciler.drivers.capabilities import ProviderSpec

SPEC = ProviderSpec(
    name="dockerhub",
    title="Docker Hub",
    spellings=("DOCKER_HUB",),
    auth=("basic",),
    why_not={
        "oidc": "Docker Hub does not accept ID tokens; use basic with an access token",
        "token": "Docker Hub takes the token as a password; use basic",
    },
    token_patterns=(r"dckr_pat_[A-Za-z0-9_-]{20,64}",),
)
