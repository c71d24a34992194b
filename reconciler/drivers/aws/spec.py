"""AWS, as data. Facts: AWS General Reference, "Service endpoints"."""

from reconciler.drivers.aws.regions import STS_HOSTS
from reconciler.drivers.capabilities import ProviderSpec

SPEC = ProviderSpec(
    name="aws",
    title="AWS",
    spellings=("AMAZON",),
    auth=("access-key", "oidc"),
    oidc_needs=("roleArn",),
    audience="sts.amazonaws.com",
    hosts=STS_HOSTS,
    token_patterns=(r"(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Z])",),
)
