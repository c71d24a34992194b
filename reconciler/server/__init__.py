"""The listeners: one ASGI app over HTTP, on loopback by default, and the admin socket."""
