"""The sinks: each turns a `reconciler.notifications.message.Message` into one request of its service."""
