"""From final arrays to success, norms and range."""
