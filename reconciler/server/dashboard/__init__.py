"""The dashboard under ``/``: pages rendered on the server, forms that run the operations of the API, and a stream that says "look again".

Everything reads and works without JavaScript; `static/live.js` only replaces what changed. Pages show what the API answers, and a form
runs the handler of the same operation, so there is no second source of facts and no second way to act.
"""
