"""The files of a finished evaluation: the same bytes, however often it was interrupted.

Only `timing.json`, and the section of the page that quotes it, differ from run to run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv import diagnostics, files
from mnist_adv.attacks.randomized import repeatable
from mnist_adv.drawing.canvas import png, rasterise
from mnist_adv.evaluation.analyse import band, beside_optimum, costs, statistics
from mnist_adv.evaluation.analyse import checks as checking
from mnist_adv.evaluation.analyse.table import Table, read_table, to_csv
from mnist_adv.evaluation.measure.chunk import Places
from mnist_adv.evaluation.measure.store import Store, json_bytes, pack
from mnist_adv.evaluation.report import cases, figures, page
from mnist_adv.evaluation.result import Evaluation
from mnist_adv.models.model_source import load_probes

if TYPE_CHECKING:
    from mnist_adv.models.model import Model

_EXTREMES, _COLUMNS, _MOSAIC = 20, 10, 60


def finish(store: Store, places: Places, model: Model, class_names: Sequence[str]) -> Evaluation:
    """Read the chunks, analyse them and write the reports into the same folder.

    Args:
        store: with no chunk missing.
        places: where the data are.
        model: images -> logits.
        class_names: k names.

    Returns:
        The results; written are `summary.json`, `images.csv`, `results.npz`, `report.html` and the
        pictures.
    """
    probes = load_probes(places.data(store.plan)).images
    with repeatable(model, probes, store.plan.seed):
        return _finish(store, places, model, class_names)


def _finish(store: Store, places: Places, model: Model, class_names: Sequence[str]) -> Evaluation:
    table = read_table(store)
    curves = statistics.curves(table)
    checks = checking.check_all(store, table, curves, model, places)
    beside = beside_optimum.find(table, model, places)
    between = band.find(table, beside)
    radii = None if between is None else between.of_cases(table)
    spent = costs.find(store, table, beside)
    warnings = _warnings(store, places, model)
    drawn = curves if beside is None else [*curves, beside.curve]
    easiest, hardest = statistics.ranked(table, "float", _EXTREMES)
    spread = np.unique(np.linspace(0, len(table) - 1, min(len(table), _MOSAIC)).astype(np.int64))
    galleries = {"easiest": easiest, "hardest": hardest, "mosaic": spread}
    galleries = {name: rows for name, rows in galleries.items() if len(rows)}
    every = np.concatenate(list(galleries.values()))
    shown = cases.fetch(store, table, places, model, every)
    pictures = {
        "curve": rasterise(figures.security_curve(table, drawn, between)),
        "distances": figures.distances(table),
        **{
            f"matrix_{name}": figures.class_matrices(
                table, name, statistics.matrices(table, number, "float"), class_names
            )
            for number, name in enumerate(table.plan.attacks)
        },
        **{
            name: figures.mosaic([shown[row].pair(class_names) for row in rows], _COLUMNS)
            for name, rows in galleries.items()
        },
    }
    extremes = {
        name: [_extreme(table, case) for case in galleries.get(name, ())]
        for name in ("easiest", "hardest")
    }
    found = Evaluation(table, curves, checks, pictures, beside, spent, warnings, between)
    folder = store.folder
    record = page.record(found, extremes)
    files.write(folder / "summary.json", json_bytes(record))
    files.write(folder / "images.csv", to_csv(table, radii))
    files.write(
        folder / "results.npz", pack({**_arrays(table), **(radii or {})}, table.plan.digest)
    )
    for name, pixels in pictures.items():
        files.write(folder / f"{name}.png", png(pixels))
    seen = {name: [shown[row] for row in rows] for name, rows in galleries.items()}
    files.write(folder / "report.html", page.page(found, seen, class_names))
    store.sweep()
    return found


def _warnings(store: Store, places: Places, model: Model) -> list[str]:
    """Find what would make any attack's results meaningless, above all useless gradients."""
    known = load_probes(places.data(store.plan))
    examined = diagnostics.examine(
        model, known.images, known.labels, pixels=places.model.pixels, thorough=False
    )
    return [str(finding) for finding in examined]


def _arrays(table: Table) -> dict[str, np.ndarray]:
    plan = table.plan
    found = [statistics.matrices(table, number, "float") for number in range(len(plan.attacks))]
    return {
        **table.columns,
        "attacks": np.array(plan.attacks),
        "epsilons": np.array(plan.epsilons),
        "matrix_rows": np.stack([each.counts for each in found]),
        "matrix_success": np.stack([each.success for each in found]),
        "matrix_distance": np.stack([each.distance for each in found]),
    }


def _extreme(table: Table, case: int) -> dict[str, Any]:
    number = int(table.distance("float")[:, case].argmin())
    target = int(table["target"][case])
    return {
        "id": int(table["index"][case]),
        "label": int(table["label"][case]),
        "target": None if target < 0 else target,
        "attack": table.plan.attacks[number],
        "distance": statistics.finite(float(table.distance("float")[number, case])),
        "prediction": int(table["float_prediction"][number, case]),
    }
