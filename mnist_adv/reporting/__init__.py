"""The results folder, figures, TensorBoard, and what is said."""
