"""Azure, as data. Facts: Microsoft Learn, "Azure endpoints by cloud" and "National clouds"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urlsplit

from reconciler.drivers.capabilities import CallerRule, ProviderSpec


@dataclass(frozen=True, slots=True)
class Cloud:
    """One Azure cloud: hosts, and the audience of federated credentials."""

    login: str
    arm: str
    graph: str
    portal: str
    audience: str
    services: Mapping[str, str]
    """Domain of a service → the scope of its tokens."""


PUBLIC = Cloud(
    login="login.microsoftonline.com",
    arm="management.azure.com",
    graph="graph.microsoft.com",
    portal="portal.azure.com",
    audience="api://AzureADTokenExchange",
    services=MappingProxyType(
        {
            "vault.azure.net": "https://vault.azure.net/.default",
            "blob.core.windows.net": "https://storage.azure.com/.default",
            "queue.core.windows.net": "https://storage.azure.com/.default",
            "servicebus.windows.net": "https://servicebus.azure.net/.default",
        }
    ),
)
US_GOVERNMENT = Cloud(
    login="login.microsoftonline.us",
    arm="management.usgovcloudapi.net",
    graph="graph.microsoft.us",
    portal="portal.azure.us",
    audience="api://AzureADTokenExchangeUSGov",
    services=MappingProxyType({"vault.usgovcloudapi.net": "https://vault.usgovcloudapi.net/.default"}),
)
CHINA = Cloud(
    login="login.chinacloudapi.cn",
    arm="management.chinacloudapi.cn",
    graph="microsoftgraph.chinacloudapi.cn",
    portal="portal.azure.cn",
    audience="api://AzureADTokenExchangeChina",
    services=MappingProxyType({"vault.azure.cn": "https://vault.azure.cn/.default"}),
)
CLOUDS = (PUBLIC, US_GOVERNMENT, CHINA)

_RELAYS = frozenset({"servicebus.windows.net"})
"""Domains below which requests are passed on to the listeners of customers."""


def _key_missing(host: str, given: Mapping[str, str]) -> str:
    known = {name for cloud in CLOUDS for name in (cloud.arm, cloud.graph)}
    derived = host in known or any(host.endswith(f".{domain}") for cloud in CLOUDS for domain in cloud.services)
    return "" if derived or given.get("audience") else "audience"


def cloud_at(*urls: str) -> Cloud:
    """Return the cloud whose portal or Resource Manager one of ``urls`` names; the public one if none does."""
    hosts = {urlsplit(url).hostname for url in urls}
    return next((cloud for cloud in CLOUDS if hosts & {cloud.arm, cloud.portal}), PUBLIC)


SPEC = ProviderSpec(
    name="azure",
    title="Azure",
    spellings=("AZURE", "AZURE_CLOUD"),
    auth=("client-secret", "oidc"),
    oidc_needs=("tenantId", "clientId"),
    audience=PUBLIC.audience,
    hosts=tuple(host for cloud in CLOUDS for host in (cloud.login, cloud.arm, cloud.graph)),
    service_hosts=(
        *(host for cloud in CLOUDS for host in (cloud.arm, cloud.graph)),
        *(f"*.{domain}" for cloud in CLOUDS for domain in cloud.services if domain not in _RELAYS),
    ),
    caller=CallerRule(keys=("audience",), missing=_key_missing),
    exchange_audiences=("api://AzureADTokenExchange*",),
)
