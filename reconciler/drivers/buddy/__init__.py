"""Buddy: integrations of a workspace, which bear no marker, and its outbound webhooks, which do.

Facts: the provider's API documentation (integrations, webhooks, getting started), its Go SDK and its Terraform provider.
"""
