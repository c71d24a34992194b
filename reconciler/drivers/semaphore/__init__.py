"""Semaphore: an event source is a secret that holds the signing key, and a notification that names it.

Facts: the provider's documentation of its API and of notifications, and its open server code (notifications, secrethub,
projecthub-rest-api, auth, public-api-gateway).
"""
