"""Models from elsewhere: TF1 checkpoints, Keras, SavedModels, NumPy, Python functions."""
