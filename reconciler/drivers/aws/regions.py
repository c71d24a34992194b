"""Regions and hosts of AWS. Facts: AWS General Reference, "Service endpoints", and the endpoint rules in botocore's data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

DEFAULT_REGION = "us-east-1"
REGION = re.compile(r"(?:af|ap|ca|cn|eu|eusc|il|me|mx|sa|us)(?:-gov|-iso[a-z]?|-de)?-[a-z]{4,16}-[0-9]{1,2}")
"""Form of a region's name. New regions appear every year, so names are not listed."""
_DOMAINS = {
    "cn-": "amazonaws.com.cn",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "eusc-": "amazonaws.eu",
}
_AREAS = ("af", "ap", "ca", "eu", "il", "me", "mx", "sa", "us")
STS_HOSTS = (
    "sts.amazonaws.com",
    *(f"{service}.{area}-*.amazonaws.com" for service in ("sts", "sts-fips") for area in _AREAS),
    "sts.cn-*.amazonaws.com.cn",
    "sts.eusc-*.amazonaws.eu",
)
SERVICE_HOSTS = (
    *(f"*.{area}-*.{domain}" for area in _AREAS for domain in ("amazonaws.com", "api.aws")),
    "*.cn-*.amazonaws.com.cn",
    "*.eusc-*.amazonaws.eu",
    "sts.amazonaws.com",
    "iam.amazonaws.com",
    "s3.amazonaws.com",
)
"""Regional endpoints of services, and three global ones. Functions, gateways, buckets and load balancers have more labels: they are
their owners', not those of AWS."""
_SIGNED_AS = {
    "lambda-url": "lambda",
    "appsync-api": "appsync",
    "sync-states": "states",
    "email": "ses",
    "bedrock-runtime": "bedrock",
    "bedrock-agent-runtime": "bedrock",
}
"""Label of a host → the name of its service in signatures, where the two differ."""
_NO_SERVICE = frozenset({"dualstack", "vpce"})
_SUFFIXES = ("amazonaws.com.cn", "amazonaws.com", "amazonaws.eu", "api.aws", "on.aws")


@dataclass(frozen=True, slots=True)
class SigningScope:
    """What a signature is for: a service in a region."""

    service: str
    region: str


def domain_of(region: str) -> str:
    """Return the domain below which the services of ``region`` answer."""
    return next((domain for prefix, domain in _DOMAINS.items() if region.startswith(prefix)), "amazonaws.com")


def sts_endpoint(region: str) -> str:
    """Return the regional endpoint of the Security Token Service. The global one has no redundancy and is not used by default."""
    return f"https://sts.{region}.{domain_of(region)}"


def scope_of(host: str) -> SigningScope | None:
    """Return the scope that the host of a URL names: ``ID.lambda-url.eu-central-1.on.aws``; None if it names none.

    A host is ``[more.]SERVICE[-fips].REGION.DOMAIN``; the old global ones, without a region, are in us-east-1.
    """
    name = host.rstrip(".").lower()
    suffix = next((each for each in _SUFFIXES if name.endswith("." + each)), None)
    if suffix is None:
        return None
    labels = [label for label in name[: -len(suffix) - 1].split(".") if label not in _NO_SERVICE]
    place = next((index for index, label in enumerate(labels) if REGION.fullmatch(label)), None)
    if place is None:
        return SigningScope(labels[-1], DEFAULT_REGION) if labels[-1] == "s3" or len(labels) == 1 else None
    # search domains have the old form REGION.es.amazonaws.com
    service = labels[-1] if place < len(labels) - 1 else labels[place - 1] if place else ""
    service = service.removesuffix("-fips")
    return SigningScope(_SIGNED_AS.get(service, service), labels[place]) if service else None


def key_missing(host: str, given: Mapping[str, str]) -> str:
    """Return the key that a stage must give because ``host`` does not name the service; empty if it does."""
    return "" if given.get("service") or scope_of(host) is not None else "service"


__all__ = [
    "DEFAULT_REGION",
    "REGION",
    "SERVICE_HOSTS",
    "STS_HOSTS",
    "SigningScope",
    "domain_of",
    "key_missing",
    "scope_of",
    "sts_endpoint",
]
