"""The command lines: flags, and the order in which the parts are called."""
