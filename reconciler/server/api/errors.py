"""Errors of requests to the API."""

from __future__ import annotations

from reconciler.model.errors import ReconcilerError


class Invalid(ReconcilerError):
    """The request does not match the OpenAPI document."""

    code = "RC8006"

    def __init__(self, message: str, *, status: int = 422, pointer: str = "") -> None:
        super().__init__(message, hint="See /api/v1/openapi.json.")
        self.status = status
        self.pointer = pointer
