from tests.engine.conftest import wide, world

__all__ = ["wide", "world"]
