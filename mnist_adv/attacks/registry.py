"""The named attacks: add one by adding a row."""

from __future__ import annotations

import dataclasses

from mnist_adv.attacks.base import Attack
from mnist_adv.attacks.methods.alma import ALMA
from mnist_adv.attacks.methods.apgd import APGD
from mnist_adv.attacks.methods.autoattack import AutoAttack, Version
from mnist_adv.attacks.methods.baselines import Blend, GaussianNoise, SaltAndPepper, UniformNoise
from mnist_adv.attacks.methods.bisection import Bisection
from mnist_adv.attacks.methods.boundary import Boundary
from mnist_adv.attacks.methods.carlini_wagner import CarliniWagner
from mnist_adv.attacks.methods.ddn import DDN
from mnist_adv.attacks.methods.deepfool import DeepFool
from mnist_adv.attacks.methods.ead import EAD
from mnist_adv.attacks.methods.fab import FAB
from mnist_adv.attacks.methods.fmn import FMN
from mnist_adv.attacks.methods.hop_skip_jump import HopSkipJump
from mnist_adv.attacks.methods.jsma import JSMA
from mnist_adv.attacks.methods.multi_epsilon import MultiEpsilonPGD
from mnist_adv.attacks.methods.optimum import OptimumAttack
from mnist_adv.attacks.methods.pgd import PGD
from mnist_adv.attacks.methods.primal_dual import PDGD, PDPGD
from mnist_adv.attacks.methods.sigma_zero import SigmaZero
from mnist_adv.attacks.methods.square import Square
from mnist_adv.attacks.methods.strongest import Strongest
from mnist_adv.geometry.norms import Norm
from mnist_adv.geometry.steps import Step
from mnist_adv.gradients.losses import Loss
from mnist_adv.gradients.sources import GradientSource, Source
from mnist_adv.registry import Registry


@dataclasses.dataclass(frozen=True)
class NamedAttack:
    """A row of the table.

    Attributes:
        name: by which it is found.
        attack: its settings.
        paper: authors and year.
        epsilon: its own default budget; None: the norm's.
        baseline: whether it uses nothing of the model's outputs: every attack must beat it.
        num_eot_samples: draws of a randomized model per query; None: the model is taken as it is.
    """

    name: str
    attack: Attack
    paper: str
    epsilon: float | None = None
    baseline: bool = False
    num_eot_samples: int | None = None


ATTACKS: Registry[NamedAttack] = Registry("method")


def require_norm(row: NamedAttack, norm: Norm) -> None:
    """Refuse a norm that an attack does not have.

    Args:
        row: the attack.
        norm: wanted.

    Raises:
        ValueError: the attack does not have it.
    """
    if norm not in row.attack.norms:
        allowed = ", ".join(known.value for known in row.attack.norms)
        raise ValueError(f"norm of {row.name} must be one of {allowed}. Received: {norm.value!r}")


def name_of(attack: Attack) -> str:
    """Name an attack by its row, or by its class if no row has its settings.

    Args:
        attack: any.

    Returns:
        The name.
    """
    for name, row in ATTACKS.items():
        if row.attack == attack:
            return name
    return type(attack).__name__


def _estimated(source: Source) -> Attack:
    # One estimate is mostly noise: momentum averages those of all steps.
    return PGD(num_steps=100, source=GradientSource(source), momentum=1.0)


for _row in (
    NamedAttack("fgsm", PGD(num_steps=1, step_fraction=1.0), "Goodfellow et al., 2015"),
    NamedAttack("bim", PGD(num_steps=10, step_fraction=0.1), "Kurakin et al., 2017"),
    NamedAttack("pgd", PGD(), "Madry et al., 2018"),
    NamedAttack("mi_fgsm", PGD(num_steps=10, step_fraction=0.1, momentum=1.0), "Dong et al., 2018"),
    NamedAttack(
        "sign_until_flip",
        PGD(num_steps=100, step=Step.SIGN, step_fraction=0.01),
        "Evans, 2016",
        epsilon=1.0,
    ),
    NamedAttack("apgd_ce", APGD(), "Croce, Hein, 2020"),
    NamedAttack("apgd_dlr", APGD(loss=Loss.DLR), "Croce, Hein, 2020"),
    NamedAttack("apgd_t", APGD(loss=Loss.DLR, num_targets=9), "Croce, Hein, 2020"),
    NamedAttack("pgd_multi_epsilon", MultiEpsilonPGD(), "after Croce, Hein, 2021"),
    NamedAttack("square", Square(), "Andriushchenko et al., 2020"),
    NamedAttack("spsa", _estimated(Source.SPSA), "Uesato et al., 2018"),
    NamedAttack("nes", _estimated(Source.NES), "Ilyas et al., 2018"),
    NamedAttack("deepfool", DeepFool(), "Moosavi-Dezfooli et al., 2016"),
    NamedAttack("ddn", DDN(), "Rony et al., 2019"),
    NamedAttack("fmn", FMN(), "Pintor et al., 2021"),
    NamedAttack("alma", ALMA(), "Rony et al., 2021"),
    NamedAttack("fab", FAB(), "Croce, Hein, 2020"),
    NamedAttack("fab_t", FAB(num_targets=9), "Croce, Hein, 2020"),
    NamedAttack("pdgd", PDGD(), "Matyasko, Chau, 2021"),
    NamedAttack("pdpgd", PDPGD(), "Matyasko, Chau, 2021"),
    NamedAttack("carlini_wagner", CarliniWagner(), "Carlini, Wagner, 2017"),
    NamedAttack("ead", EAD(), "Chen et al., 2018"),
    NamedAttack("jsma", JSMA(), "Papernot et al., 2016"),
    NamedAttack("sigma_zero", SigmaZero(), "Cinà et al., 2024"),
    NamedAttack(
        "apgd_minimal",
        Bisection(inner=APGD(loss=Loss.MARGIN)),
        "Croce, Hein, 2020, inside a bisection of epsilon",
    ),
    NamedAttack("bisection", Bisection(), "Madry et al., 2018, inside a bisection of epsilon"),
    NamedAttack("autoattack", AutoAttack(), "Croce, Hein, 2020"),
    NamedAttack("autoattack_plus", AutoAttack(version=Version.PLUS), "Croce, Hein, 2020"),
    NamedAttack(
        "autoattack_rand",
        AutoAttack(version=Version.RAND),
        "Croce, Hein, 2020",
        num_eot_samples=20,
    ),
    NamedAttack("strongest", Strongest(), "every attack that applies"),
    NamedAttack("optimum", OptimumAttack(), "the certified smallest change of linear models"),
    NamedAttack("boundary", Boundary(), "Brendel et al., 2018"),
    NamedAttack("hop_skip_jump", HopSkipJump(), "Chen et al., 2020"),
    NamedAttack("uniform_noise", UniformNoise(), "baseline", baseline=True),
    NamedAttack("gaussian_noise", GaussianNoise(), "baseline", baseline=True),
    NamedAttack("salt_and_pepper", SaltAndPepper(), "baseline", baseline=True),
    NamedAttack("blend", Blend(), "baseline", baseline=True),
):
    ATTACKS.add(_row)
