"""Find what is wrong with a model before it is attacked."""

from mnist_adv.diagnostics.api import examine
from mnist_adv.diagnostics.finding import Finding, Severity

__all__ = ["Finding", "Severity", "examine"]
