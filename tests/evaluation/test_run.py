"""Runs: killed, resumed, spread over processes and machines, and the same bytes each time."""

from __future__ import annotations

import json
import multiprocessing
import os
import pathlib
import re
import signal
import threading
import time
from collections.abc import Callable

import joblib
import numpy as np
import pytest

from mnist_adv import attack
from mnist_adv.attacks.methods.ensemble import Ensemble
from mnist_adv.certification.method import Method
from mnist_adv.commands import evaluate as command
from mnist_adv.data import datasets
from mnist_adv.evaluation.analyse.table import Table, read_table
from mnist_adv.evaluation.measure import run
from mnist_adv.evaluation.measure.chunk import compute
from mnist_adv.evaluation.measure.store import Store
from mnist_adv.evaluation.plan import Plan, Targets
from mnist_adv.evaluation.report import files
from mnist_adv.evaluation.result import Evaluation
from mnist_adv.geometry.norms import Norm
from mnist_adv.models import checkpoints
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.tensors import compilation
from tests.evaluation.support import child, contents, places, small_plan

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def plan(workshop: pathlib.Path) -> Plan:
    return small_plan(workshop, certify_method=Method.CROWN)


@pytest.fixture(scope="module")
def unbroken(
    workshop: pathlib.Path, plan: Plan, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
    """The folder of a run that nothing disturbed."""
    store = Store(tmp_path_factory.mktemp("unbroken") / "run", plan)
    assert run.execute(store, places(workshop), quiet=True) == 12
    finish(store, workshop)
    return store.folder


def finish(store: Store, workshop: pathlib.Path) -> Evaluation:
    model = checkpoints.restore(workshop / "checkpoints")
    return files.finish(store, places(workshop), model, "0123456789")


def wait_for(happens: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.005)


def test_killed_twice_it_ends_in_the_same_bytes(
    workshop: pathlib.Path, plan: Plan, unbroken: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "run"
    # a server that has imported TensorFlow and not used it: its children start at once
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tensorflow", "tests.evaluation.support"])
    kept: set[str] = set()
    for _ in range(2):
        process = context.Process(target=child, args=(plan, places(workshop), str(folder)))
        process.start()
        wait_for(lambda: len(list(folder.glob("chunks/0*.npz"))) > len(kept))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        kept = {path.name for path in folder.glob("chunks/0*.npz")}
        assert len(kept) < 12
    (folder / "chunks" / ".mnist_adv-left-by-a-kill").write_bytes(b"half")
    store = Store(folder, plan)
    assert run.execute(store, places(workshop), quiet=True) == 12 - len(kept)
    finish(store, workshop)
    assert contents(folder) == contents(unbroken)


def test_two_dask_workers_one_of_them_killed_give_the_same_bytes(
    workshop: pathlib.Path, plan: Plan, unbroken: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    from distributed import LocalCluster

    store = Store(tmp_path / "run", plan)
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        victim = next(iter(cluster.workers.values())).pid
        assert victim not in (None, os.getpid())

        def kill() -> None:
            wait_for(lambda: any(store.folder.glob("chunks/0*.npz")))
            os.kill(victim, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        engine = run.Engine(run.Backend.DASK, scheduler=cluster.scheduler_address)
        run.execute(store, places(workshop), engine, quiet=True)
        killer.join()
    finish(store, workshop)
    assert contents(store.folder) == contents(unbroken)


def test_what_a_chunk_says_is_what_its_images_do(
    workshop: pathlib.Path,
    plan: Plan,
    unbroken: pathlib.Path,
    trained: SoftmaxRegression,
    test_set: datasets.Dataset,
) -> None:
    store = Store(unbroken, plan)
    table = read_table(store)
    levels = np.concatenate([part["levels"] for part in store.read(("levels",))], axis=1)[0]
    levels = levels.reshape(-1, 784)
    clean = test_set.images[table["index"]].reshape(-1, 784).astype(np.float64)
    pixels = levels.astype(np.float64) / 255
    seen = (pixels @ trained.W.numpy() + trained.b.numpy()).argmax(axis=1)
    np.testing.assert_array_equal(table["label"], test_set.labels[: len(table)])
    np.testing.assert_array_equal(table["saved_prediction"][0], seen)
    np.testing.assert_array_equal(table["saved_success"][0], seen == table["target"])
    length = np.abs(pixels - clean).max(axis=1)
    np.testing.assert_allclose(table["saved_linf"][0], length, atol=1e-6)
    assert length.max() <= 0.2 + 1e-6
    assert 0.3 < table["saved_success"].mean() < 1  # else nothing was told apart


def test_blend_and_the_optimum_give_in_chunks_what_they_give_together(
    workshop: pathlib.Path,
    trained: SoftmaxRegression,
    test_set: datasets.Dataset,
    train_set: datasets.Dataset,
    tmp_path: pathlib.Path,
) -> None:
    asked = small_plan(
        workshop,
        attacks=("blend", "optimum"),
        targets=Targets.NEXT,
        epsilons=(0.3,),
        step_size=None,
        num_images=9,
        chunk_size=5,
    )
    store = Store(tmp_path / "run", asked)
    run.execute(store, places(workshop), quiet=True)
    found = read_table(store)["float_l1"]  # in linf most changes are as large as the budget
    images, targets = test_set.images[:9], (test_set.labels[:9] + 1) % 10
    donors = (train_set.images[:2000], train_set.labels[:2000])
    blend = attack(trained, images, targets=targets, method="blend", num_steps=5, donors=donors)
    optimum = attack(trained, images, targets=targets, method="optimum")
    np.testing.assert_array_equal(found[0], blend.verdict.norms["l1"])
    np.testing.assert_array_equal(found[1], optimum.verdict.norms["l1"])


def test_damaged_images_are_noticed(
    workshop: pathlib.Path, plan: Plan, unbroken: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    from mnist_adv.evaluation.analyse.checks import _saved_images
    from mnist_adv.evaluation.measure.store import pack

    store = Store(tmp_path / "run", plan)
    for each, part in zip(plan.chunks(), Store(unbroken, plan).read()):
        if each.number == 3:
            part["levels"][0, 0] ^= 255
        store.put(each, pack(part, plan.digest))
    model = checkpoints.restore(workshop / "checkpoints")
    found = _saved_images(store, read_table(store), model, places(workshop))
    assert [check.holds for check in found] == [False, False]


def test_another_checkpoint_is_refused(workshop: pathlib.Path, plan: Plan) -> None:
    other = small_plan(workshop, checkpoint="e" * 64)
    with pytest.raises(ValueError, match="is not the model that this evaluation began with"):
        compute(other, places(workshop), 0)


def test_the_page_needs_nothing_else(unbroken: pathlib.Path) -> None:
    page = (unbroken / "report.html").read_text()
    links = re.findall(r"(?:src|href)=\"([^\"]*)\"", page)
    assert links and all((unbroken / link).is_file() for link in links)
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "url(" not in page.replace("`url(#${clip})`", "") and "@import" not in page
    assert "{{" not in page and "{%" not in page
    for word in ("None", "inf,", ">inf<", "nan"):
        assert word not in page, word


def test_the_summary_is_derived_from_the_rows(
    unbroken: pathlib.Path, trained: SoftmaxRegression, test_set: datasets.Dataset
) -> None:
    summary = json.loads((unbroken / "summary.json").read_text())
    logits = trained(test_set.images[:45]).numpy()
    right = int((logits.argmax(axis=1) == test_set.labels[:45]).sum())
    assert summary["clean_accuracy"]["count"] == right
    assert summary["curves"][0]["robust"][0]["count"] == right
    assert all(check["holds"] for check in summary["checks"]) and len(summary["checks"]) >= 5
    with np.load(unbroken / "results.npz", allow_pickle=False) as arrays:
        met = arrays["float_success"] & (arrays["float_linf"] <= 0.05 + 1e-6)
        assert summary["curves"][0]["success"][1]["count"] == met.sum()
    assert len((unbroken / "images.csv").read_text().splitlines()) == 46


def test_every_mode_and_norm(workshop: pathlib.Path, tmp_path: pathlib.Path) -> None:
    tables: list[Table] = []
    for number, targets in enumerate(Targets):
        norm, epsilon = ((Norm.L2, 2.0), (Norm.LINF, 0.2))[number % 2]
        asked = small_plan(
            workshop, targets=targets, num_images=4, norm=norm, epsilons=(0.0, epsilon)
        )
        store = Store(tmp_path / targets.value, asked)
        run.execute(store, places(workshop), quiet=True)
        evaluation = finish(store, workshop)
        assert evaluation.sound
        tables.append(evaluation.table)
    assert [len(table) for table in tables] == [4, 4, 4, 4, 36]


def test_the_command(
    workshop: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def evaluate(*flags: str) -> tuple[int, str]:
        status = command.main([
            "evaluate.py",
            f"--checkpoint_dir={workshop / 'checkpoints'}",
            f"--results_dir={tmp_path / 'results'}",
            f"--logdir={tmp_path / 'logs'}",
            "--num_images=6",
            "--chunk_size=4",
            "--num_steps=3",
            "--epsilons=0,0.1,...,0.2",
            *flags,
        ])
        captured = capsys.readouterr()
        return status, captured.err + captured.out

    status, said = evaluate("--name=run")
    assert status == 0
    assert "threat: away from the label, linf at most 0.2 (51 of 255 levels)" in said
    assert "clean accuracy: " in said and "checks: 5 of 5 hold" in said
    assert said.rstrip().endswith(str(tmp_path / "results/run/report.html"))
    assert "6/6" in said and "image/s" in said  # the bar, with its rate
    before = contents(tmp_path / "results/run")
    runs = sorted(path.name for path in (tmp_path / "logs/evaluate-run").iterdir() if path.is_dir())
    assert runs == []  # the run of the evaluation is that of its one attack

    status, said = evaluate("--name=run")
    assert status == 0 and "2 of 2 chunks were there already" in said
    assert contents(tmp_path / "results/run") == before

    status, said = evaluate("--name=run", "--seed=5")
    assert status == 2 and said.count("\n") == 1
    assert "belongs to other settings: seed is 0 there and 5 here; choose another --name" in said
    assert contents(tmp_path / "results/run") == before

    for flags, message in (
        (("--attack=fgsm_deluxe",), "method must be one of "),
        (("--jobs=0",), "jobs must be an integer in 1..4096. Received: 0"),
        (("--backend=dask",), "backend dask and scheduler tcp://host:port go together"),
        (("--num_images=10001",), "num_images must be at most 10000. Received: 10001"),
        (("--epsilons=0.2,0.1",), "epsilons must be finite numbers"),
    ):
        status, said = evaluate(*flags)
        assert status == 2 and message in said, said


@pytest.mark.slow
def test_a_chunk_tells_which_attack_and_which_part_runs(workshop: pathlib.Path) -> None:
    begun: list[tuple[str, int]] = []

    class Listener:
        def begin(self, name: str, total: int) -> None:
            begun.append((name, total))

        def __call__(self, count: int) -> None:
            assert count >= 0

    plan = small_plan(
        workshop, attacks=("fgsm", "autoattack"), epsilons=(0.01,), num_steps=2, step_size=None
    )
    with_it = compute(plan, places(workshop), 0, Listener())[0]
    names = [name for name, _ in begun]
    assert names == ["fgsm", "autoattack", "apgd_ce", "apgd_t", "fab_t", "square"]
    assert begun[0][1] == begun[1][1] == 4
    assert with_it == compute(plan, places(workshop), 0)[0]


def test_a_bar_names_the_part_that_runs(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    class Bar:
        disable = False
        written = ""
        doing = "compiling"

        def write(self, text: str, file: object) -> None:
            self.written += text

        def set_description(self, text: str, refresh: bool) -> None:
            self.doing = text

        def set_postfix_str(self, text: str) -> None:
            self.text = text

    bar = Bar()
    inside = run._Inside.behind(bar, plan)
    inside.begin("fab_t", 8)
    inside(3)
    assert bar.text == "fab_t 0/8"  # drawn a moment ago
    monkeypatch.setattr(run, "_REDRAWN", -1.0)
    inside.begin("square", 8)
    assert (bar.text, bar.doing) == ("square 0/8", "compiling")
    inside(4)
    assert (bar.text, bar.doing) == ("square 4/8", "attacking")
    inside.begin("fab_t", 8)
    inside(4)
    assert bar.text == "fab_t 4/8"
    inside(9)
    assert bar.text == "fab_t 8/8"
    # The whole evaluation, once: every image and budget.
    inside.begin("autoattack", 4)
    assert inside.expect is not None
    inside.expect(2, 60.0)
    count, minutes = plan.num_images, round(plan.num_images * len(plan.epsilons) / 2)
    assert f"autoattack, {count} images: at most about {minutes} minute" in bar.written
    assert inside.expect is None


def test_with_jobs_too_the_time_of_an_ensemble_is_told_once(
    workshop: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(compilation, "XLA", False)
    measured: list[int] = []

    def expected(self: object, task: object, inputs: dict[str, np.ndarray], *_: object) -> float:
        measured.append(len(inputs["clean"]))
        return 240.0

    monkeypatch.setattr(Ensemble, "expected_seconds", expected)
    # Workers in this process: what they are handed is the same.
    monkeypatch.setattr(
        joblib, "Parallel", lambda **_: lambda tasks: (call(*given) for call, given, _ in tasks)
    )
    short = small_plan(
        workshop,
        attacks=("autoattack",),
        num_steps=2,
        step_size=None,
        num_images=8,
        epsilons=(0.2,),
    )
    store = Store(tmp_path / "run", short)
    assert run.execute(store, places(workshop), run.Engine(jobs=2)) == len(short.chunks())
    minutes = round(4 * short.num_images * len(short.epsilons) / measured[0] / 2)
    said = f"autoattack, {short.num_images} images: at most about {minutes} minutes"
    assert capsys.readouterr().err.count(said) == len(measured) == 1
    run.execute(Store(tmp_path / "quiet", short), places(workshop), run.Engine(jobs=2), quiet=True)
    assert len(measured) == 1 and capsys.readouterr().err == ""
