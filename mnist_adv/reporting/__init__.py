"""Reports of one attack: results folder, figures, TensorBoard, lines and records."""
