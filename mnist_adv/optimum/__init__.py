"""The truth to measure attacks against: certified smallest perturbations of linear classifiers."""

from mnist_adv.optimum.certificate.smallest import Certificate, LeadCertificate, check, check_lead
from mnist_adv.optimum.curve import robust_accuracy
from mnist_adv.optimum.grid import GridOptimum, on_grid
from mnist_adv.optimum.in_ball.largest_margin import LargestLead, largest_lead
from mnist_adv.optimum.result import Optimum, Status
from mnist_adv.optimum.float32 import to_float32
from mnist_adv.optimum.api import smallest_perturbation

__all__ = [
    "Certificate",
    "GridOptimum",
    "LeadCertificate",
    "LargestLead",
    "Optimum",
    "Status",
    "check",
    "check_lead",
    "largest_lead",
    "on_grid",
    "robust_accuracy",
    "smallest_perturbation",
    "to_float32",
]
