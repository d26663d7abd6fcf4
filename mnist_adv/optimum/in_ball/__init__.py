"""The largest margin and log-odds inside a ball."""
