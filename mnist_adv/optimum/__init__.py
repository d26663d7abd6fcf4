"""The truth to measure attacks against: certified smallest perturbations of linear classifiers."""

from mnist_adv.optimum.api import smallest_perturbation
from mnist_adv.optimum.certificate.in_ball import MarginCertificate, check_margin
from mnist_adv.optimum.certificate.smallest import Certificate, check
from mnist_adv.optimum.curve import robust_accuracy
from mnist_adv.optimum.float32 import to_float32
from mnist_adv.optimum.in_ball.largest_margin import LargestMargin, largest_margin
from mnist_adv.optimum.result import Optimum, Status

__all__ = [
    "Certificate",
    "MarginCertificate",
    "LargestMargin",
    "Optimum",
    "Status",
    "check",
    "check_margin",
    "largest_margin",
    "robust_accuracy",
    "smallest_perturbation",
    "to_float32",
]
