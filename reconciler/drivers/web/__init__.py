"""What needs no account anywhere: webhooks of one's own."""

from reconciler.drivers.web.receiving import RECEIVERS

__all__ = ["RECEIVERS"]
