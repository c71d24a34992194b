"""AWS, as data. Facts: AWS General Reference, "Service endpoints"."""

from reconciler.drivers.aws.regions import SERVICE_HOSTS, STS_HOSTS, key_missing
from reconciler.drivers.capabilities import CallerRule, ProviderSpec

SPEC = ProviderSpec(
    name="aws",
    title="AWS",
    spellings=("AMAZON",),
    auth=("access-key", "oidc"),
    oidc_needs=("roleArn",),
    audience="sts.amazonaws.com",
    hosts=STS_HOSTS,
    stores_secrets=True,
    service_hosts=SERVICE_HOSTS,
    caller=CallerRule(
        keys=("service", "region"),
        headers=("authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256", "date"),
        missing=key_missing,
    ),
    exchange_audiences=("sts.amazonaws.com",),
    token_patterns=(r"(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Z])",),
)
