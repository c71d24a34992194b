"""GitHub: an event source is a webhook on a repository or an organization.

Facts: GitHub's OpenAPI description (api.github.com, version 2022-11-28), its documentation of rate limits, pagination and
webhooks, and answers recorded by open client libraries.
"""
