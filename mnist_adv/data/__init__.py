"""From files to images `[n, h, w, c]` in [0, 1] with their labels."""
