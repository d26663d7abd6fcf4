"""Flags of the commands: what they allow, and what a hand or a script may write instead."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.commands import attack, cli, convert, evaluate, train
from mnist_adv.models import checkpoints
from mnist_adv.models.formats import convert as convert_api
from mnist_adv.models.training_config import DEFENDED_NORMS
from tests.data.support import write_idx
from tests.faults.campaign import Campaign, Ended, Outcome

COMMANDS = {"attack": attack, "evaluate": evaluate, "train": train, "convert": convert}
_SIDE, _CLASSES = 8, 3
# Of every kind of flag: absurd, and never the name of anything that is there.
_JUNK = (
    "",
    " ",
    "nan",
    "inf",
    "-1",
    "-0",
    "0",
    "1e39",
    "1e-50",
    "4294967296",
    "4294967299",
    "9" * 30,
    "9" * 5000,
    "x" * 5000,
    "3.5",
    "1,2",
    "seven",
    "\u0665",  # a digit of another script, which is a digit
    "\u4e03 \U0001f600",
    "\udcff",  # a byte that is no text, as a shell hands it over
    "a\nb",
    "{'a': 1}",
    "--target",
    "%s%n",
    "no/such/place",
    "no:such",
)
_FEW: dict[str, tuple[str, ...]] = {
    "DEFINE_integer": ("1", "2", "3"),
    "DEFINE_float": ("0.01", "0.3", "1"),
}
# What they print instead is a text, or the trial's own; the short names of others.
_LEFT_OUT = {"help", "helpfull", "json", "h", "v"}
_RIGHT: dict[str, tuple[str, ...]] = {
    "attack": (*ATTACKS, "pgd,fgsm", "ddn,optimum,boundary"),
    "settings": (
        *("num_eot_samples=2", "momentum=0.9", "pgd.momentum=0.9", "random_start=true"),
        *("loss=margin,restarts=2", "no_such=1"),
    ),
    "defend": DEFENDED_NORMS,
    "model": ("../made/model.npz",),
    "checkpoint": ("../made/model.ckpt",),
    "source": ("../made/model.npz", "../made/model.ckpt"),
    "class_names": ("../made/names.txt",),
    "image": ("../made/digit.png",),
    "label": ("1",),
    "dataset": ("../made/digits",),
    "variables": ("W=W,b=b", "W=Variable,b=Variable_1"),
    "flagfile": ("../made/flags.txt",),
    "epsilons": ("0,0.1", "0.2", "0,0.1,...,0.4"),
    "split": ("test", "train"),
    "format": ("npz", "tf1", "checkpoint", "keras"),
    "index": ("0", "29"),
    "name": ("mine", "a b"),
    "target": ("0", "2"),
    "results_dir": ("out",),
    "logdir": ("out/logs",),
    "destination": ("new.npz", "new/model.ckpt", "new.keras"),
    "names": ("W=kernel,b=bias",),
    "jobs": ("1", "2"),
    "scheduler": ("tcp://127.0.0.1:9",),  # nobody listens there
    "verbosity": ("0", "1"),
}
Captured = tuple[int, str, str]


def _prepare(made: pathlib.Path) -> None:
    rng = np.random.default_rng(3)
    means = rng.integers(0, 200, (_CLASSES, _SIDE, _SIDE))
    for split, count in (("train", 60), ("t10k", 30)):
        labels = np.arange(count) % _CLASSES
        noise = rng.integers(0, 56, (count, _SIDE, _SIDE))
        write_idx(made / "digits", f"{split}-images-idx3-ubyte", means[labels] + noise)
        write_idx(made / "digits", f"{split}-labels-idx1-ubyte", labels)
    status, _, errors = _run("train", made, *_base("train", made, made))
    if status != cli.DONE:
        raise RuntimeError(errors)
    for destination in ("model.npz", "model.ckpt"):
        convert_api.convert(made / "checkpoints", made / destination)
    Image.fromarray(means[0].astype(np.uint8)).save(made / "digit.png")
    (made / "names.txt").write_text("one\ntwo\nthree\n")
    (made / "flags.txt").write_text("--verbosity=0\n")


def _base(
    name: str, made: pathlib.Path, work: pathlib.Path, chosen: Mapping[str, str] | None = None
) -> list[str]:
    """What a trial of a command is given, into a folder of its own, so that others make sense."""
    chosen = chosen or {}
    base: dict[str, object] = {"dataset": made / "digits", "logdir": work / "logs"}
    if name in ("attack", "evaluate"):
        base |= {"checkpoint_dir": made / "checkpoints", "results_dir": work / "results"}
        base |= {"num_steps": 3} | ({"num_images": 6} if name == "evaluate" else {})
        if chosen.keys() & {"model", "checkpoint", "pixel_scale", "polarity", "variables"}:
            del base["checkpoint_dir"]
            if not chosen.keys() & {"model", "checkpoint"}:
                base["model"] = made / "model.npz"
        if "image" in chosen:
            del base["dataset"]
        row = ATTACKS.get(chosen.get("attack", ""))
        if row is not None and not row.attack.takes_steps:
            del base["num_steps"]
    elif name == "train":
        base |= {"checkpoint_dir": work / "checkpoints", "num_epochs": 2, "batch_size": 20}
        base["epsilon" if "defend" in chosen else "learning_rate"] = 0.5
    else:
        del base["logdir"]
        base |= {"source": made / "checkpoints", "destination": work / "made.npz"}
    return [f"--{key}={value}" for key, value in base.items()]


def _choices(name: str) -> dict[str, tuple[str, ...]]:
    """The flags of a command, with some values that they allow."""
    values = cli.flags_of(COMMANDS[name].main)
    found: dict[str, tuple[str, ...]] = {}
    for key in sorted(values):
        flag = values[key]
        if key in _LEFT_OUT:
            continue
        kind = {"int": "DEFINE_integer", "float": "DEFINE_float"}.get(flag.flag_type(), "")
        few = _FEW.get(kind, ())
        if flag.boolean:
            few = ("true", "false")
        elif getattr(flag.parser, "enum_values", None):
            few = tuple(flag.parser.enum_values)
        elif getattr(flag.parser, "enum_class", None):
            few = tuple(member.name for member in flag.parser.enum_class)
        if not (name in ("attack", "evaluate") and key == "source"):  # of gradients there
            few = _RIGHT.get(key, few)
        found[key] = few
    return found


def _run(name: str, folder: pathlib.Path, *arguments: str) -> Captured:
    """Run a command in this process, inside a folder."""
    before, out, errors = os.getcwd(), io.StringIO(), io.StringIO()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            status = COMMANDS[name].main([f"{name}.py", *arguments])
    finally:
        os.chdir(before)
    return status, out.getvalue(), errors.getvalue()


def _trial(number: int, made: pathlib.Path, work: pathlib.Path) -> Ended:
    rng = np.random.default_rng([13, number])
    name = list(COMMANDS)[number % len(COMMANDS)]
    allowed = _choices(name)
    right = [key for key in allowed if allowed[key]]
    names = rng.choice(right, int(rng.integers(1, 4)), replace=False).tolist()
    chosen = {key: allowed[key][int(rng.integers(len(allowed[key])))] for key in names}
    given = [f"--{key}={value}" for key, value in chosen.items()]
    if rng.random() < 0.6:
        key = str(rng.choice(list(allowed)))
        chosen[key] = _JUNK[int(rng.integers(len(_JUNK)))]
        given.append(f"--{key}={chosen[key]}")
    fault = f"{name}.py {' '.join(text[:60] for text in given)!r}"
    base = _base(name, made, work, chosen)
    try:
        status, out, errors = _run(name, work, *base, "--json", *given)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return Ended(Outcome.TRACEBACK, f"{fault}: {type(error).__name__}: {str(error)[:300]}")
    told = errors.strip().splitlines()[-1:] or [""]
    # What --verbosity asks for is no defect.
    shown = "Traceback" in errors and "verbosity" not in chosen
    if shown or status not in (cli.DONE, cli.NOT_REACHED, cli.BAD_REQUEST):
        return Ended(Outcome.TRACEBACK, f"{fault}: status {status}: {told[0][:300]}")
    if status == cli.BAD_REQUEST:
        left = [path for path in work.rglob("*") if path.name in ("result.json", "report.html")]
        good = told[0].startswith(f"{name}.py: error: ") and len(told[0]) > 20 and not left
        return Ended(Outcome.REFUSED if good else Outcome.SILENT, f"{fault}: {told[0][:300]}")
    if _lists(out):
        return Ended(Outcome.UNHARMED, f"{fault}: a list")
    try:
        wrong = _CHECKS[name](status, out, made, work, chosen)
    except (KeyError, OSError, ValueError) as error:
        wrong = f"{type(error).__name__}: {error}"
    outcome = Outcome.SILENT if wrong else Outcome.UNHARMED
    return Ended(outcome, f"{fault}: status {status}: {wrong}")


def _lists(out: str) -> bool:
    """Tell what --list prints."""
    with contextlib.suppress(ValueError):
        return "model formats" in json.loads(out)
    return False


def _logits(made: pathlib.Path, images: np.ndarray, chosen: Mapping[str, str]) -> np.ndarray:
    """The logits of the model for images in [0, 1], prepared as the flags say."""
    model = checkpoints.restore(made / "checkpoints")
    rows = images.reshape(len(images), -1).astype(np.float64)
    if chosen.get("polarity") == "DARK_ON_LIGHT":
        rows = 1 - rows
    scale = chosen.get("pixel_scale", "UNIT")
    rows = {"UNIT": rows, "BYTES": 255 * rows}.get(scale, 2 * rows - 1)
    found: np.ndarray = rows @ model.W.numpy().astype(np.float64) + model.b.numpy()
    return found


def _length(norm: str, away: np.ndarray) -> float:
    return float(
        {
            "linf": np.abs(away).max(),
            "l2": np.linalg.norm(away.ravel()),
            "l1": np.abs(away).sum(),
            "l0": (away != 0).sum(),
        }[norm]
    )


def _check_attack(
    status: int, out: str, made: pathlib.Path, work: pathlib.Path, chosen: Mapping[str, str]
) -> str:
    record = json.loads(out)
    if record["success"] != (status == cli.DONE) and "check_gradient" not in chosen:
        return "the status and the record differ"
    folder = work / record["folder"]
    with Image.open(folder / "adversarial.png") as picture:
        image = np.asarray(picture).reshape(1, _SIDE, _SIDE, 1) / np.float32(255)
    seen = int(_logits(made, image, chosen)[0].argmax())
    goal, threat = record["goal"], record["threat"]
    met = (seen == goal["class"]) == (goal["kind"] == "reach")
    if record["success"] and not met:
        return f"the saved image is seen as {seen}, the goal is {goal}"
    with np.load(folder / "result.npz") as arrays:
        clean = arrays["images"].reshape(image.shape)
    length = _length(threat["norm"], image.astype(np.float64) - clean)
    if record["success"] and length > (threat["epsilon"] or np.inf) + 1e-5:
        return f"the saved image has left the budget: {length} of {threat}"
    return ""


def _check_evaluate(
    status: int, out: str, made: pathlib.Path, work: pathlib.Path, chosen: Mapping[str, str]
) -> str:
    (manifest,) = work.rglob("manifest.json")
    folder = manifest.parent
    settings = json.loads(manifest.read_text())["settings"]
    failed = [check for check in json.loads(out)["checks"] if not check["holds"]]
    # Fewer goals than noise meets, of a handful of images, is no mistake of the command's.
    if status == cli.NOT_REACHED:
        return "" if failed else "status 1 and every check passed"
    wrong = 0
    for path in sorted((folder / "chunks").iterdir()):
        with np.load(path) as part:
            for attack_number in range(len(settings["attacks"])):
                levels = part["levels"][attack_number] / np.float32(255)
                seen = _logits(made, levels, chosen).argmax(axis=1)
                goal = part["target"] if settings["targets"] != "untargeted" else part["label"]
                met = (seen == goal) == (settings["targets"] != "untargeted")
                wrong += int((part["saved_success"][attack_number] & ~met).sum())
    return f"{wrong} saved images are claimed wrongly" if wrong else ""


def _check_train(
    status: int, out: str, made: pathlib.Path, work: pathlib.Path, chosen: Mapping[str, str]
) -> str:
    record = json.loads(out)
    model = checkpoints.restore(work / os.path.dirname(record["checkpoint"]["prefix"]))
    if not all(np.isfinite(part.numpy()).all() for part in (model.W, model.b)):
        return "weights that are not finite"
    return "" if 0 <= record["test"]["accuracy"] <= 1 else f"accuracy {record['test']}"


def _check_convert(
    status: int, out: str, made: pathlib.Path, work: pathlib.Path, chosen: Mapping[str, str]
) -> str:
    path = work / json.loads(out)["saved"]
    ours = checkpoints.restore(made / "checkpoints").W.numpy()
    if path.suffix == ".keras" and path.is_file():
        found = keras.models.load_model(path, compile=False).get_weights()
    elif path.is_file():
        with np.load(path) as arrays:
            found = [arrays[name] for name in arrays.files]
    else:  # a checkpoint, of TF1 or of ours
        found = [
            tf.train.load_variable(str(path), name)
            for name, _ in tf.train.list_variables(str(path))
        ]
    same = any(np.array_equal(values, ours) for values in found)
    return "" if same else "other weights than those of the source"


_CHECKS = {
    "attack": _check_attack,
    "evaluate": _check_evaluate,
    "train": _check_train,
    "convert": _check_convert,
}

CAMPAIGN = Campaign(
    name="flags of commands",
    promise="A wrong flag is refused with status 2 in one line, and a right one does what it says.",
    count=2000,
    prepare=_prepare,
    trial=_trial,
    quick=12,
)
