"""Training robust Keras models: wrappers around a model, and a callback.

import keras, mnist_adv.keras

wrapper = mnist_adv.keras.AdversarialTraining(model, norm="linf", epsilon=0.1)
wrapper.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
wrapper.fit(images, labels, epochs=5)
model.save("robust.keras")  # an ordinary file, which loads without this package
"""

from mnist_adv.keras.adversarial import AdversarialTraining
from mnist_adv.keras.interval_training import IntervalBoundTraining
from mnist_adv.keras.robust_accuracy import RobustAccuracy

__all__ = ["AdversarialTraining", "IntervalBoundTraining", "RobustAccuracy"]
