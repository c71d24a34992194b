"""The command line: one module per verb group, imported only when its verb is called."""
