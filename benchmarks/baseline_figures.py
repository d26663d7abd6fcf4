"""Store what other libraries reach on stored weights, for the tests to compare with.

    make peers            # sets the environment up in .venv-peers and runs a short race
    .venv-peers/bin/python -m benchmarks.baseline_figures

`baseline_libraries.py` races them; this asks only what they find, with attacks that the race leaves
out, and keeps the weights beside the figures, in benchmarks/results: baseline_figures.json and
baseline_weights.npz. `--attacks alma` asks for some attacks alone, on the stored weights, and keeps
the other figures.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks import baseline_results, baseline_tools
from benchmarks.strength import make_net
from mnist_adv import judge
from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.data import datasets
from mnist_adv.models import checkpoints

RESULTS = pathlib.Path(__file__).parent / "results"
FIGURES, WEIGHTS = RESULTS / "baseline_figures.json", RESULTS / "baseline_weights.npz"
NUM_IMAGES = 300
EPSILON = {"linf": 0.1, "l2": 1.5, "l1": 10.0}
NUM_QUERIES = 300
ALMA_STEPS, ALMA_MEMORY, ALMA_FIRST_STEP = 200, 0.9, {"l2": 0.1, "l1": 0.5}
ORDER = {"linf": float("inf"), "l2": 2, "l1": 1}

Run = Callable[[torch.Tensor, torch.Tensor, bool], torch.Tensor]


def baselines(models: baseline_tools.Models) -> dict[tuple[str, str, str], Run]:
    """List (our name, norm, tool) -> function of images, classes and whether they are targets."""
    return {**_torchattacks(models), **_advlib(models), **_foolbox(models)}


def _torchattacks(models: baseline_tools.Models) -> dict[tuple[str, str, str], Run]:
    import torchattacks

    def of(name: str, **settings: Any) -> Run:
        def run(images: torch.Tensor, classes: torch.Tensor, targeted: bool) -> torch.Tensor:
            found = getattr(torchattacks, name)(models.torch, **settings)
            if targeted:
                found.set_mode_targeted_by_label(quiet=True)
            return found(images.reshape(-1, 1, 28, 28), classes)  # channels first

        return run

    linf, l2 = EPSILON["linf"], EPSILON["l2"]
    square = {"n_queries": NUM_QUERIES, "p_init": 0.3, "seed": 0}
    rows = {
        ("fgsm", "linf"): of("FGSM", eps=linf),
        ("bim", "linf"): of("BIM", eps=linf, alpha=linf / 10, steps=10),
        ("pgd", "linf"): of("PGD", eps=linf, alpha=0.01, steps=40, random_start=False),
        ("pgd", "l2"): of("PGDL2", eps=l2, alpha=0.1, steps=40, random_start=False),
        ("mi_fgsm", "linf"): of("MIFGSM", eps=linf, alpha=linf / 10, steps=10),
        ("square", "linf"): of("Square", norm="Linf", eps=linf, **square),
        ("square", "l2"): of("Square", norm="L2", eps=l2, **square),
    }
    return {(*key, "torchattacks"): row for key, row in rows.items()}


def _advlib(models: baseline_tools.Models) -> dict[tuple[str, str, str], Run]:
    from adv_lib.attacks import alma
    from adv_lib.attacks.auto_pgd import apgd

    def augmented(norm: str) -> Run:
        def run(images: torch.Tensor, classes: torch.Tensor, targeted: bool) -> torch.Tensor:
            return alma(
                models.torch,
                images,
                classes,
                targeted=targeted,
                num_steps=ALMA_STEPS,
                distance=norm,
                init_lr_distance=ALMA_FIRST_STEP[norm],
                α=ALMA_MEMORY,
            )

        return run

    def of(norm: str, loss: str) -> Run:
        def run(images: torch.Tensor, classes: torch.Tensor, targeted: bool) -> torch.Tensor:
            settings = {"n_iter": 100, "loss_function": loss, "use_large_reps": norm == "l1"}
            order = ORDER[norm]
            return apgd(
                models.torch, images, classes, EPSILON[norm], order, targeted=targeted, **settings
            )

        return run

    return {
        **{("alma", norm, "adv-lib"): augmented(norm) for norm in ALMA_FIRST_STEP},
        **{
            (f"apgd_{loss}", norm, "adv-lib"): of(norm, loss)
            for loss in ("ce", "dlr")
            for norm in ORDER
        },
    }


def _foolbox(models: baseline_tools.Models) -> dict[tuple[str, str, str], Run]:
    import foolbox

    def of(name: str, **settings: Any) -> Run:
        def run(images: torch.Tensor, classes: torch.Tensor, targeted: bool) -> torch.Tensor:
            kinds = foolbox.criteria
            goal = kinds.TargetedMisclassification if targeted else kinds.Misclassification
            found = getattr(foolbox.attacks, name)(**settings)
            return found(models.foolbox_torch, images, goal(classes), epsilons=None)[1]

        return run

    rows = {
        ("deepfool", "linf"): of("LinfDeepFoolAttack", steps=50),
        ("deepfool", "l2"): of("L2DeepFoolAttack", steps=50),
        ("ddn", "l2"): of("DDNAttack", steps=100),
        ("fmn", "linf"): of("LInfFMNAttack", steps=100),
        ("fmn", "l2"): of("L2FMNAttack", steps=100),
        ("fmn", "l1"): of("L1FMNAttack", steps=100),
        ("fmn", "l0"): of("L0FMNAttack", steps=100),
        ("carlini_wagner", "l2"): of("L2CarliniWagnerAttack", binary_search_steps=6, steps=300),
        ("ead", "l1"): of("EADAttack", binary_search_steps=6, steps=300, regularization=0.01),
    }
    return {(*key, "foolbox"): row for key, row in rows.items()}


def main() -> None:
    """Run every baseline once and store what it found."""
    parser = argparse.ArgumentParser(description="Store what other libraries reach.")
    parser.add_argument("--checkpoint_dir", default="checkpoints")
    parser.add_argument("--attacks", nargs="+", metavar="NAME")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    model = (
        make_net("softmax_regression")
        if arguments.attacks
        else checkpoints.restore(arguments.checkpoint_dir)
    )
    weights, bias = model.W.numpy(), model.b.numpy()
    models = baseline_tools.Models(weights, bias)
    names = {name for name, _, _ in baselines(models)}
    asked = set(arguments.attacks or names)
    if asked - names:
        parser.error(f"--attacks must be of {', '.join(sorted(names))}. Received: {asked - names}")
    test = datasets.load("mnist", "test")
    images, labels = test.images[:NUM_IMAGES], test.labels[:NUM_IMAGES]
    if not arguments.attacks:
        np.savez_compressed(WEIGHTS, W=weights, b=bias)
    settings = {"num_images": NUM_IMAGES, "targets": "(label + 1) mod 10", "queries": NUM_QUERIES}
    record: dict[str, Any] = {"versions": baseline_results.versions(), "settings": settings}
    record["figures"] = []
    if arguments.attacks:
        kept = json.loads(FIGURES.read_text())["figures"]
        record["figures"] = [figure for figure in kept if figure["attack"] not in asked]
    wanted = [(*key, mode) for key in baselines(models) for mode in (True, False)]
    wanted = [each for each in wanted if each[0] in asked]
    for name, norm, tool, targeted in tqdm(wanted, disable=None):
        if name == "deepfool" and targeted:
            continue  # the baselines' has no such mode
        classes = (labels + 1) % 10 if targeted else labels
        torch.manual_seed(0)
        run = baselines(models)[name, norm, tool]
        found = run(torch.tensor(images), torch.tensor(classes), targeted)
        adversarial = found.detach().numpy().reshape(images.shape)
        fixed = not ATTACKS[name].attack.minimal
        # 1e-6 of slack in the judge is for our own rounding; the baselines' is larger.
        epsilon = EPSILON[norm] * (1 + 1e-5) if fixed else np.inf
        goal: dict[str, Any] = {"targets" if targeted else "labels": classes}
        verdict = judge(model, images, adversarial, norm=norm, epsilon=epsilon, **goal)
        distances = np.where(verdict.success, verdict.norms[norm], np.inf)
        record["figures"].append({
            "attack": name,
            "norm": norm,
            "tool": tool,
            "targeted": targeted,
            "epsilon": EPSILON[norm] if fixed else None,
            "success": float(verdict.success.mean()),
            "median_distance": float(np.median(distances)) if not fixed else None,
        })
        FIGURES.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
