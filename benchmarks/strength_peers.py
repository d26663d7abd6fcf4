"""What other libraries offer to find the smallest change, held to a budget of queries.

Each attack is given a number of steps; the largest is sought whose passes through the model,
counted by a wrapper around it, stay within the budget. Everything else is the library's own
default, where no comment says otherwise.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks import baseline_tools, conv_nets
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.verdict.judge import judge

# Between which the passes of one step are measured, on so many images.
TRIED_STEPS, TRIED_IMAGES = (10, 20), 2
# Steps of an attack that ends by itself before its steps do.
MANY_STEPS = 1000
BISECTIONS = 12  # of epsilon
FEWEST_IN_PHASES = 10  # steps, cut into three phases
BETWEEN_THEIR_STEPS = 300  # of ALMA's two settings
SEARCHES = 9  # over a constant, each with as many steps
# Where the bisection of AutoPGD begins, and what FAB may return.
FARTHEST = {"linf": 1.0, "l2": 10.0, "l1": 100.0}

# model, images `[n, 1, h, w]`, labels, steps -> images
Run = Callable[[Any, Any, Any, int], Any]


class CountedModel(torch.nn.Module):  # type: ignore[misc]
    """A model that counts the images that pass through it, forwards and backwards.

    Args:
        model: images -> logits.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.passes = model, 0

    def forward(self, images: Any) -> Any:
        """Compute logits."""
        self.passes += len(images)
        return self.model(_CountBackward.apply(images, self))


class _CountBackward(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(context: Any, images: Any, counted: CountedModel) -> Any:
        context.counted = counted
        return images.view_as(images)

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        context.counted.passes += len(gradients[0])
        return gradients[0], None


def as_torch(model: Any) -> Any:
    """Copy a model to PyTorch.

    Args:
        model: a `SoftmaxRegression`, or a Keras model of `keras_nets`.

    Returns:
        Images `[n, 1, h, w]` -> logits.
    """
    if not isinstance(model, SoftmaxRegression):
        return conv_nets.to_torch(model)
    linear = torch.nn.Linear(*model.W.shape)
    linear.weight.data = torch.tensor(model.W.numpy().T.copy())
    linear.bias.data = torch.tensor(model.b.numpy())
    return torch.nn.Sequential(torch.nn.Flatten(), linear).eval()


def attacks(tools: list[str]) -> dict[tuple[str, str], Run]:
    """List the attacks.

    Args:
        tools: "adv-lib", "foolbox", "torchattacks", or some of them.

    Returns:
        (norm, attack and tool) -> what runs it.
    """
    baseline_tools.stand_in_for_unused_imports()
    listed = {"adv-lib": _advlib, "foolbox": _foolbox, "torchattacks": _torchattacks}
    return {
        (norm, f"{name} ({tool})"): run
        for tool, of in listed.items()
        if tool in tools
        for (norm, name), run in of().items()
    }


def measure(
    run: Run, model: Any, images: np.ndarray, labels: np.ndarray, norm: str, most: int
) -> tuple[np.ndarray, float]:
    """Attack with as many steps as a budget pays.

    Args:
        run: of `attacks`.
        model: as `as_torch` takes it; it judges what is found.
        images: `[n, h, w, 1]` in [0, 1].
        labels: `[n]`.
        norm: of the distance.
        most: forward and backward passes, the mean of the images.

    Returns:
        Distances `[n]`, infinite where nothing was found, and the seconds of the last run.
    """
    counted = CountedModel(as_torch(model)).eval()
    clean = np.asarray(model(images)).argmax(1)
    attacked = np.flatnonzero(clean == labels)  # the others are at distance 0
    tensors = torch.tensor(images[attacked].transpose(0, 3, 1, 2)), torch.tensor(labels[attacked])
    steps = _first_steps(run, counted, tensors, most)
    while True:
        counted.passes, began = 0, time.perf_counter()
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002  (what Foolbox draws from)
        found = run(counted, tensors[0].clone(), tensors[1].clone(), steps)
        seconds, spent = time.perf_counter() - began, counted.passes / len(attacked)
        if spent <= most or steps == 1:
            break
        steps = max(1, min(steps - 1, int(steps * most / spent)))
    final = np.array(images)
    final[attacked] = found.detach().numpy().transpose(0, 2, 3, 1)
    # Floats that lie outside by their rounding alone are no miss.
    final = np.clip(np.nan_to_num(final), 0, 1)
    verdict = judge(model, images, final, labels=labels, norm=norm, epsilon=math.inf)
    return np.where(verdict.success & (spent <= most), verdict.norms[norm], np.inf), seconds


def _first_steps(run: Run, counted: CountedModel, tensors: tuple[Any, Any], most: int) -> int:
    images, labels = (tensor[:TRIED_IMAGES] for tensor in tensors)
    spent = []
    for steps in TRIED_STEPS:
        counted.passes = 0
        run(counted, images.clone(), labels.clone(), steps)
        spent.append(counted.passes / len(images))
    each = (spent[1] - spent[0]) / (TRIED_STEPS[1] - TRIED_STEPS[0])
    if each <= 0:
        return MANY_STEPS
    start = spent[0] - TRIED_STEPS[0] * each
    return max(1, min(int((most - start) / each + 1e-6), most))


def _advlib() -> dict[tuple[str, str], Run]:
    from adv_lib.attacks import (
        alma,
        carlini_wagner_l2,
        ddn,
        df,
        fab,
        fmn,
        pdgd,
        pdpgd,
        sdf,
        sigma_zero,
        tr,
        vfga,
    )
    from adv_lib.attacks.auto_pgd import minimal_apgd

    def of(function: Callable[..., Any], steps_name: str, **settings: Any) -> Run:
        def run(model: Any, images: Any, labels: Any, steps: int) -> Any:
            return function(model, images, labels, **{steps_name: steps}, **settings)

        return run

    def bisected(norm: str) -> Run:
        def run(model: Any, images: Any, labels: Any, steps: int) -> Any:
            return minimal_apgd(
                model,
                images,
                labels,
                conv_nets.NORMS[norm],
                max_eps=FARTHEST[norm],
                binary_search_steps=BISECTIONS,  # as ours: its 20 would leave few steps for each
                n_iter=steps,
                use_large_reps=norm == "l1" and steps >= FEWEST_IN_PHASES,  # the paper's in L1
            )

        return run

    def augmented(norm: str) -> Run:
        def run(model: Any, images: Any, labels: Any, steps: int) -> Any:
            return alma(
                model,
                images,
                labels,
                num_steps=steps,
                distance=norm,
                # The authors' own for MNIST, with 100 and with 1,000 steps.
                init_lr_distance={"l2": 0.1, "l1": 0.5}[norm],
                α=0.5 if steps < BETWEEN_THEIR_STEPS else 0.9,
            )

        return run

    found = {}
    for norm, order in conv_nets.NORMS.items():
        found[norm, "fmn"] = of(fmn, "steps", norm=order)
        # The paper's operator for few pixels; the library's own comment says the same.
        operator = {"proximal_operator": 23} if norm == "l0" else {}
        found[norm, "pdpgd"] = of(pdpgd, "num_steps", norm=order, **operator)
        if norm in FARTHEST:
            found[norm, "apgd_minimal"] = bisected(norm)
            found[norm, "fab"] = of(fab, "n_iter", norm=order)
        if norm in ("linf", "l2"):
            found[norm, "deepfool"] = of(df, "steps", norm=order)
            found[norm, "trust_region"] = of(tr, "iter", p=order)
        if norm in ("l2", "l1"):
            found[norm, "alma"] = augmented(norm)
            found[norm, "alma_defaults"] = of(alma, "num_steps", distance=norm)
    found["l2", "ddn"] = of(ddn, "steps", levels=None)
    found["l2", "pdgd"] = of(pdgd, "num_steps")
    found["l2", "superdeepfool"] = of(sdf, "steps")
    found["l2", "carlini_wagner"] = of(
        carlini_wagner_l2, "max_iterations", binary_search_steps=SEARCHES
    )
    found["l0", "sigma_zero"] = of(sigma_zero, "num_steps")
    found["l0", "vfga"] = of(vfga, "max_iter", targeted=False)
    return found


def _foolbox() -> dict[tuple[str, str], Run]:
    import foolbox

    def of(name: str, **settings: Any) -> Run:
        def run(model: Any, images: Any, labels: Any, steps: int) -> Any:
            attack = getattr(foolbox.attacks, name)(steps=steps, **settings)
            wrapped = foolbox.PyTorchModel(model, bounds=(0, 1))
            return attack(wrapped, images, labels, epsilons=None)[0]

        return run

    found = {}
    for norm, spelled in {"linf": "Linf", "l2": "L2", "l1": "L1", "l0": "L0"}.items():
        prefix = "LInf" if norm == "linf" else spelled
        found[norm, "fmn"] = of(f"{prefix}FMNAttack")
    for norm, spelled in {"linf": "Linf", "l2": "L2"}.items():
        found[norm, "deepfool"] = of(f"{spelled}DeepFoolAttack")
    found["l2", "ddn"] = of("DDNAttack")
    found["l2", "carlini_wagner"] = of("L2CarliniWagnerAttack", binary_search_steps=SEARCHES)
    found["l1", "ead"] = of("EADAttack", binary_search_steps=SEARCHES, decision_rule="L1")
    return found


def _torchattacks() -> dict[tuple[str, str], Run]:
    import torchattacks

    def of(name: str, steps_name: str = "steps", **settings: Any) -> Run:
        def run(model: Any, images: Any, labels: Any, steps: int) -> Any:
            attack = getattr(torchattacks, name)(model, **{steps_name: steps}, **settings)
            return attack(images, labels)

        return run

    def jsma(model: Any, images: Any, labels: Any, steps: int) -> Any:
        # Two pixels a step; the share of the pixels is its only limit.
        share = 2 * steps / images[0].numel()
        return torchattacks.JSMA(model, gamma=share)(images, labels)

    found: dict[tuple[str, str], Run] = {
        (norm, "fab"): of(
            "FAB", norm=spelled, eps=FARTHEST[norm]
        )  # its own would hide what is farther
        for norm, spelled in {"linf": "Linf", "l2": "L2", "l1": "L1"}.items()
    }
    found["l2", "deepfool"] = of("DeepFool")
    found["l2", "carlini_wagner"] = of("CW")
    found["l1", "ead"] = of("EADL1", "max_iterations", binary_search_steps=SEARCHES)
    found["l0", "sparsefool"] = of("SparseFool")
    found["l0", "jsma"] = jsma
    return found
