"""Docker Hub, as data."""

from reconciler.drivers.capabilities import ProviderLimits, ProviderSpec

SPEC = ProviderSpec(
    name="dockerhub",
    title="Docker Hub",
    spellings=("DOCKER_HUB",),
    auth=("basic",),
    why_not={
        "oidc": "Docker Hub does not accept ID tokens; use basic with an access token",
        "token": "Docker Hub takes the token as a password; use basic",
    },
    hosts=("hub.docker.com", "auth.docker.io"),
    limits=ProviderLimits(concurrent=8),
    token_patterns=(r"dckr_[po]at_[A-Za-z0-9_-]{20,64}",),
)
