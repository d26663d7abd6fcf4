"""The truth to measure attacks against: certified smallest perturbations of linear classifiers."""

from mnist_adv.optimum.certificate.smallest import Certificate, check
from mnist_adv.optimum.certificate.in_ball import LeadCertificate, check_lead
from mnist_adv.optimum.curve import robust_accuracy
from mnist_adv.optimum.in_ball.largest_margin import LargestLead, largest_lead
from mnist_adv.optimum.result import Optimum, Status
from mnist_adv.optimum.float32 import to_float32
from mnist_adv.optimum.api import smallest_perturbation

__all__ = [
    "Certificate",
    "LeadCertificate",
    "LargestLead",
    "Optimum",
    "Status",
    "check",
    "check_lead",
    "largest_lead",
    "robust_accuracy",
    "smallest_perturbation",
    "to_float32",
]
