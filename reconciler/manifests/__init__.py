"""Manifests: bytes → typed resources. Strict YAML with places, schemas, references, expressions. No I/O, no clock."""

from reconciler.manifests.load import ParseCache, SourceFile, load

__all__ = ["ParseCache", "SourceFile", "load"]
