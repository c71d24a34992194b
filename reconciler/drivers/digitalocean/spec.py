"""DigitalOcean, as data. Facts: the OpenAPI description of its API (version 2)."""

from reconciler.drivers.capabilities import ProviderLimits, ProviderSpec

SPEC = ProviderSpec(
    name="digitalocean",
    title="DigitalOcean",
    spellings=("DIGITAL_OCEAN",),
    auth=("token",),
    why_not={"oidc": "DigitalOcean's API does not accept ID tokens; use token"},
    hosts=("api.digitalocean.com", "cloud.digitalocean.com"),
    limits=ProviderLimits(points_per_minute=250, read_points=1, write_points=1, concurrent=16),
    token_patterns=(r"do[opr]_v1_[a-f0-9]{64}",),
)
