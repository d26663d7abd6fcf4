"""The truth to measure attacks against: certified smallest perturbations of linear classifiers."""

from mnist_adv.optimum.against import BelowOptimumError, Comparison, as_attack, compare
from mnist_adv.optimum.certificate import Certificate, check
from mnist_adv.optimum.inverse import LargestLead, largest_lead
from mnist_adv.optimum.result import Optimum, Status
from mnist_adv.optimum.single import to_float32
from mnist_adv.optimum.solve import smallest_perturbation

__all__ = [
    "BelowOptimumError",
    "Certificate",
    "Comparison",
    "LargestLead",
    "Optimum",
    "Status",
    "as_attack",
    "check",
    "compare",
    "largest_lead",
    "smallest_perturbation",
    "to_float32",
]
