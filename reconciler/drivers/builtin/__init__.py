"""Features without an account: signed webhooks, requests to any allowed host, and stages that run nothing."""

from reconciler.drivers.builtin.driver import WebDriver, driver
from reconciler.drivers.builtin.receiver import RECEIVERS
from reconciler.drivers.builtin.urls import connection_to

__all__ = ["RECEIVERS", "WebDriver", "connection_to", "driver"]
