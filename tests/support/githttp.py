"""The sandbox's Git server, under the name that tests use."""

from reconciler.sandbox.githttp import GitHttpServer

__all__ = ["GitHttpServer"]
