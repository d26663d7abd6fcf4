"""The files of a finished evaluation: the same bytes, however often it was interrupted.

Only `timing.json`, and the section of the page that quotes it, differ from run to run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv import diagnostics, files
from mnist_adv.drawing.canvas import png, rasterise
from mnist_adv.evaluation.analyse import beside_optimum, costs, statistics
from mnist_adv.evaluation.analyse import checks as checking
from mnist_adv.evaluation.analyse.table import Table, read_table, to_csv
from mnist_adv.evaluation.measure.chunk import Places
from mnist_adv.evaluation.measure.store import Store, json_bytes, pack
from mnist_adv.evaluation.report import figures, page
from mnist_adv.evaluation.report.figures import Pair
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
    table = read_table(store)
    curves = statistics.curves(table)
    checks = checking.check_all(store, table, curves, model, places)
    beside = beside_optimum.find(table, model, places)
    spent = costs.find(store, table, beside)
    warnings = _warnings(store, places, model)
    drawn = curves if beside is None else [*curves, beside.curve]
    easiest, hardest = statistics.ranked(table, "float", _EXTREMES)
    spread = np.unique(np.linspace(0, len(table) - 1, min(len(table), _MOSAIC)).astype(np.int64))
    cases = {"easiest": easiest, "hardest": hardest, "mosaic": spread}
    pictures = {
        "curve": rasterise(figures.security_curve(table, drawn)),
        "distances": figures.distances(table),
        **{
            f"matrix_{name}": figures.class_matrices(
                table, name, statistics.matrices(table, number, "float"), class_names
            )
            for number, name in enumerate(table.plan.attacks)
        },
        **{
            name: figures.mosaic(_pairs(store, table, places, chosen, class_names), _COLUMNS)
            for name, chosen in cases.items()
            if len(chosen)
        },
    }
    extremes = {
        name: [_extreme(table, case) for case in cases[name]] for name in ("easiest", "hardest")
    }
    found = Evaluation(table, curves, checks, pictures, beside, spent, warnings)
    folder = store.folder
    record = page.record(found, extremes)
    files.write(folder / "summary.json", json_bytes(record))
    files.write(folder / "images.csv", to_csv(table))
    files.write(folder / "results.npz", pack(_arrays(table), table.plan.digest))
    for name, pixels in pictures.items():
        files.write(folder / f"{name}.png", png(pixels))
    files.write(folder / "report.html", page.page(found))
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


def _pairs(
    store: Store, table: Table, places: Places, cases: np.ndarray, class_names: Sequence[str]
) -> list[Pair]:
    """Fetch the images of some cases, chunk by chunk."""
    plan, distance = table.plan, table.distance("float")
    best = distance.argmin(axis=0)
    firsts = np.searchsorted(table["index"], [chunk.first for chunk in plan.chunks()])
    home = np.searchsorted(firsts, cases, side="right") - 1
    pairs: dict[int, Pair] = {}
    for chunk in plan.chunks():
        mine = cases[home == chunk.number]
        if not len(mine):
            continue
        levels = store.read_chunk(chunk, ("levels",))["levels"]
        loaded = places.data(plan).load(chunk.rows)
        for case in mine.tolist():
            index, number = int(table["index"][case]), int(best[case])
            clean = loaded.images[index - chunk.first]
            seen = class_names[table["saved_prediction"][number, case]]
            before, length = class_names[table["label"][case]], distance[number, case]
            far = f"{length:.3g}" if np.isfinite(length) else "not met"
            pairs[case] = Pair(
                clean=np.rint(255 * clean).astype(np.uint8),
                changed=levels[number, case - firsts[chunk.number]],
                caption=f"#{index}: {before} to {seen}\n{far}",
                met=bool(np.isfinite(length)),
            )
    return [pairs[case] for case in cases.tolist()]
