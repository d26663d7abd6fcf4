"""From floats to 8 bits that stay adversarial."""
