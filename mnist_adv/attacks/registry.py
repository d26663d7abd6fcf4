"""The named attacks: one row each. Add an attack by adding a row."""

from __future__ import annotations

import dataclasses

from mnist_adv.attacks.methods.apgd import AutoDescent
from mnist_adv.attacks.methods.baselines import Blend, GaussianNoise, SaltAndPepper, UniformNoise
from mnist_adv.attacks.methods.bisection import Bisection
from mnist_adv.attacks.methods.carlini_wagner import CarliniWagner
from mnist_adv.attacks.methods.ddn import DDN
from mnist_adv.attacks.methods.deepfool import DeepFool
from mnist_adv.attacks.methods.pgd import Descent
from mnist_adv.attacks.methods.ead import EAD
from mnist_adv.attacks.methods.fmn import FMN
from mnist_adv.attacks.methods.jsma import JSMA
from mnist_adv.attacks.methods.square import Square
from mnist_adv.attacks.base import Method
from mnist_adv.gradients.sources import GradientSource, Source
from mnist_adv.gradients.losses import Loss
from mnist_adv.geometry.steps import Step


@dataclasses.dataclass(frozen=True)
class Entry:
    """A named attack.

    Attributes:
        method: its settings.
        paper: authors and year.
        epsilon: its own default budget; None: the norm's.
        baseline: whether it asks the model for no direction: every attack must beat it.
    """

    method: Method
    paper: str
    epsilon: float | None = None
    baseline: bool = False


def _estimated(source: Source) -> Method:
    # One estimate is mostly noise: momentum averages those of all steps.
    return Descent(num_steps=100, source=GradientSource(source), momentum=1.0)


REGISTRY = {
    "fgsm": Entry(Descent(num_steps=1, step_fraction=1.0), "Goodfellow et al., 2015"),
    "bim": Entry(Descent(num_steps=10, step_fraction=0.1), "Kurakin et al., 2017"),
    "pgd": Entry(Descent(), "Madry et al., 2018"),
    "mi_fgsm": Entry(Descent(num_steps=10, step_fraction=0.1, momentum=1.0), "Dong et al., 2018"),
    "sign_until_flip": Entry(
        Descent(num_steps=100, step=Step.SIGN, step_fraction=0.01), "Evans, 2016", epsilon=1.0
    ),
    "apgd_ce": Entry(AutoDescent(), "Croce, Hein, 2020"),
    "apgd_dlr": Entry(AutoDescent(loss=Loss.DLR), "Croce, Hein, 2020"),
    "square": Entry(Square(), "Andriushchenko et al., 2020"),
    "spsa": Entry(_estimated(Source.SPSA), "Uesato et al., 2018"),
    "nes": Entry(_estimated(Source.NES), "Ilyas et al., 2018"),
    "deepfool": Entry(DeepFool(), "Moosavi-Dezfooli et al., 2016"),
    "ddn": Entry(DDN(), "Rony et al., 2019"),
    "fmn": Entry(FMN(), "Pintor et al., 2021"),
    "carlini_wagner": Entry(CarliniWagner(), "Carlini, Wagner, 2017"),
    "ead": Entry(EAD(), "Chen et al., 2018"),
    "jsma": Entry(JSMA(), "Papernot et al., 2016"),
    "bisection": Entry(Bisection(), "Madry et al., 2018, inside a bisection of epsilon"),
    "uniform_noise": Entry(UniformNoise(), "baseline", baseline=True),
    "gaussian_noise": Entry(GaussianNoise(), "baseline", baseline=True),
    "salt_and_pepper": Entry(SaltAndPepper(), "baseline", baseline=True),
    "blend": Entry(Blend(), "baseline", baseline=True),
}


def find(name: str) -> Entry:
    """Look a named attack up.

    Args:
        name: a key of `REGISTRY`.

    Returns:
        Its row.

    Raises:
        ValueError: no such name.
    """
    if name not in REGISTRY:
        raise ValueError(f"method must be one of {', '.join(REGISTRY)}. Received: {name!r}")
    return REGISTRY[name]


def name_of(method: Method) -> str:
    """Name a method by its row, or by its class if its settings are nobody's.

    Args:
        method: any.

    Returns:
        The name.
    """
    for name, entry in REGISTRY.items():
        if entry.method == method:
            return name
    return type(method).__name__
