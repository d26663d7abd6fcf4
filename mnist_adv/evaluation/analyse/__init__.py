"""From chunks to a table, statistics and checks."""
