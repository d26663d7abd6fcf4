"""Drawing, from arrays and numbers alone: whatever has a picture of its own can import it."""
