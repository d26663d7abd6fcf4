"""Compare the gradient sources with one another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.arguments import shown
from mnist_adv.data.images import as_batch
from mnist_adv.gradients.api import compute_gradient
from mnist_adv.gradients.losses import Loss
from mnist_adv.gradients.sources import SOURCES, Source, default_difference_step
from mnist_adv.models.as_model import as_model
from mnist_adv.models.logits import check_logits
from mnist_adv.tensors.lazy import tf

if TYPE_CHECKING:
    from mnist_adv.models.model import Model

# The forward difference errs by about 1e-8 in float64 and 1e-3 in float32 where e is the default;
# a wrong gradient errs by 1.
AGREEMENT = {"float64": 1e-5, "float32": 0.02}


def check_gradient(
    model: Model,
    image: Any,
    intended_label: int,
    *,
    loss: Loss | str = "cross_entropy",
    difference_step: float | None = None,
) -> dict[str, dict[str, float]]:
    """Compare every source that fits the model with the tape in the finest dtype.

    Args:
        model: images -> logits.
        image: one image, floats in [0, 1].
        intended_label: the class of the loss.
        loss: "cross_entropy" or "probability".
        difference_step: e of the two differences; a step suited to the dtype if None.

    Returns:
        dtype -> source -> largest absolute difference over the pixels, divided by the largest
        absolute derivative of the reference. A dtype or source that the model does not support is
        left out; the reference itself shows 0.

    Raises:
        ValueError: as `compute_gradient`.

    Example:
        >>> import mnist_adv
        >>> model = mnist_adv.restore("checkpoints")
        >>> seven = mnist_adv.load("mnist", "test").images[0]
        >>> errors = mnist_adv.check_gradient(model, seven, 2)
        >>> errors["float64"]["closed_form"] < 1e-12
        True
        >>> errors["float64"]["forward_difference"] < 1e-5
        True
    """
    model = as_model(model, as_batch(image))
    dtypes = _dtypes(model, image)

    def gradient(dtype: str, source: Source) -> np.ndarray:
        return compute_gradient(
            model,
            image,
            intended_label,
            loss=loss,
            source=source,
            difference_step=difference_step,
            dtype=dtype,
        )

    reference = gradient(dtypes[0], Source.TAPE)
    scale = float(np.abs(reference).max()) or 1.0
    return {
        dtype: {
            name: float(np.abs(gradient(dtype, source) - reference).max()) / scale
            for name, source in SOURCES.items()
            if not source.estimates and source.applies(model)
        }
        for dtype in dtypes
    }


def disagreement(errors: dict[str, dict[str, float]]) -> tuple[str, float, bool]:
    """Judge what `check_gradient` found, in the finest dtype that the model supports.

    Args:
        errors: from `check_gradient`.

    Returns:
        The dtype, the largest disagreement in it, and whether that is small enough to say that
        the sources agree.
    """
    dtype = next(iter(errors))
    worst = max(errors[dtype].values())
    return dtype, worst, bool(worst < AGREEMENT[dtype])


def difference_errors(
    model: Model, image: Any, intended_label: int, *, loss: Loss | str = "cross_entropy"
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], dict[str, float]]:
    """Measure how the error of the two differences depends on e.

    Args:
        model: images -> logits.
        image: one image, floats in [0, 1].
        intended_label: the class of the loss.
        loss: "cross_entropy" or "probability".

    Returns:
        Curves: "source, dtype" -> (e `[m]`, relative error `[m]`), and the default e of each.
    """
    model = as_model(model, as_batch(image))
    dtypes = _dtypes(model, image)
    reference = compute_gradient(model, image, intended_label, loss=loss, dtype=dtypes[0])
    scale = float(np.abs(reference).max()) or 1.0
    curves, defaults = {}, {}
    for dtype in dtypes:
        for source in (Source.FORWARD_DIFFERENCE, Source.CENTRAL_DIFFERENCE):
            default = default_difference_step(source, dtype)
            steps = np.unique(
                np.append(np.logspace(-12 if dtype == "float64" else -6, 0, 13), default)
            )
            errors = [
                np.abs(
                    compute_gradient(
                        model,
                        image,
                        intended_label,
                        loss=loss,
                        source=source,
                        difference_step=float(step),
                        dtype=dtype,
                    )
                    - reference
                ).max()
                / scale
                for step in steps
            ]
            name = f"{source.name}, {dtype}"
            curves[name], defaults[name] = (steps, np.array(errors)), default
    return curves, defaults


def _dtypes(model: Model, image: Any) -> list[str]:
    """List the dtypes that the model computes in, finest first."""
    batch = as_batch(image)
    found = [dtype for dtype in ("float64", "float32") if supports(model, batch, dtype)]
    if not found:
        check_logits(model, tf.constant(batch, tf.float32))  # says what is wrong with it
        raise ValueError(f"model must compute in float32 or float64. Received: {shown(model)}")
    return found


def supports(model: Model, images: Any, dtype: str) -> bool:
    """Tell whether a model computes in a dtype.

    Args:
        model: images -> logits.
        images: `[n, h, w, c]`, of which the first is tried.
        dtype: "float32" or "float64".

    Returns:
        Whether images of that dtype give logits of that dtype.
    """
    try:
        logits = model(tf.cast(images[:1], dtype))
        return bool(logits.dtype == tf.as_dtype(dtype))
    except (TypeError, ValueError, tf.errors.InvalidArgumentError):
        return False
