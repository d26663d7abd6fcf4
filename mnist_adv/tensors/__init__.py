"""TensorFlow put off until it is used, compilation, and random numbers per image."""
