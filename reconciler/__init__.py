"""Integrations as code: keep CI/CD connections exactly as a Git repository declares them."""

__version__ = "0.2.0"
