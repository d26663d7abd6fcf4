"""Read SavedModels where Keras 2 cannot be imported, as with the package alone.

python saved_model_reader.py DATA.npz FOLDER NAME...
"""

import sys

import numpy as np


def main() -> None:
    """Write each model's notes, logits and gradient beside it."""
    sys.modules["tf_keras"] = None  # type: ignore[assignment]  # its import fails from here on
    import tensorflow as tf

    from mnist_adv.models.formats.open import open_model

    with np.load(sys.argv[1]) as data:
        pixels = tf.constant(data["test"].reshape(-1, 28, 28, 1))
    for name in sys.argv[3:]:
        opened = open_model(f"{sys.argv[2]}/{name}")
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            logits = opened.model(pixels)
            value = logits[:, 2] - logits[:, 7]
        np.savez(
            f"{sys.argv[2]}/{name}-read.npz",
            notes=opened.notes,
            logits=logits,
            gradient=tf.reshape(tape.gradient(value, pixels), [-1, 784]),
        )


if __name__ == "__main__":
    main()
