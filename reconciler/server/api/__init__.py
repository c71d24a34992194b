"""``/api/v1``: one table of operations, from which the routes, the checks and the OpenAPI document are made."""
