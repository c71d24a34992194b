"""Notifications: the outbox is emptied into the sinks. What is sent is decided in `reconciler.engine.incidents`."""
