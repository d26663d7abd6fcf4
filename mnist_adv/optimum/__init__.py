"""The truth to measure attacks against: certified smallest perturbations of linear classifiers."""

from mnist_adv.optimum.certificate import Certificate, check
from mnist_adv.optimum.result import Optimum, Status
from mnist_adv.optimum.solve import smallest_perturbation

__all__ = ["Certificate", "Optimum", "Status", "check", "smallest_perturbation"]
