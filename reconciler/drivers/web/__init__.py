"""What needs no account anywhere: webhooks of one's own, requests to any allowed host, and stages that run nothing."""

from reconciler.drivers.web.origins import connection_to
from reconciler.drivers.web.provider import WebDriver, driver
from reconciler.drivers.web.receiving import RECEIVERS

__all__ = ["RECEIVERS", "WebDriver", "connection_to", "driver"]
