"""SavedModels of Keras 2, Keras 3, tf.Module and TF1: their own logits, and nothing of them run."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import mnist_adv
from mnist_adv.data import datasets
from mnist_adv.models.formats import saved_fingerprint
from mnist_adv.models.formats.open import open_model

pytestmark = pytest.mark.slow

layers = keras.layers
HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[2]
NUM_IMAGES = 100
FLAT = tf.TensorSpec([None, 784])


@pytest.fixture(scope="module")
def keras2(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Models that Keras 2 saved with Adam, and what is read where Keras 2 is not installed."""
    folder = tmp_path_factory.mktemp("keras2")
    train, test = datasets.load(split="train"), datasets.load()
    np.savez(
        folder / "data.npz",
        images=train.images[:3000],
        labels=train.labels[:3000],
        test=test.images[:NUM_IMAGES],
    )
    _run("keras2_program.py", folder, environment={"TF_USE_LEGACY_KERAS": "1"})
    _run("saved_model_reader.py", folder, "convolutional", "flat", "functional")
    return folder


def _run(
    program: str, folder: pathlib.Path, *names: str, environment: dict[str, str] | None = None
) -> None:
    done = subprocess.run(
        [sys.executable, HERE / program, folder / "data.npz", folder, *names],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
    )
    if done.returncode:
        raise RuntimeError(done.stderr)


def _refused(spec: Any, kind: type[Exception] = ValueError) -> str:
    with pytest.raises(kind) as caught:
        open_model(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _images(number: int = NUM_IMAGES) -> np.ndarray:
    return datasets.load().images[:number]


def _normalised(logits: Any) -> np.ndarray:
    return np.asarray(tf.nn.log_softmax(tf.cast(logits, tf.float64)))


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("convolutional", "input_1 to dense"),
        ("flat", "input_2 to softmax"),
        ("functional", "input_3 to dense_3"),
    ],
)
def test_keras_2_folder_is_read_without_keras_2(
    keras2: pathlib.Path, name: str, taken: str
) -> None:
    with np.load(keras2 / f"{name}-read.npz") as read, np.load(keras2 / f"{name}.npz") as own:
        assert read["notes"][0] == f"took signature serving_default: {taken}"
        is_softmax = name != "functional"
        assert ("its last softmax was taken off" in read["notes"][-1]) == is_softmax
        np.testing.assert_allclose(
            _normalised(read["logits"]), _normalised(own["logits"]), atol=1e-5
        )
        np.testing.assert_allclose(read["gradient"], own["gradient"], atol=1e-4)
        assert np.mean(read["logits"].argmax(1) == datasets.load().labels[:NUM_IMAGES]) > 0.3


def test_keras_2_folder_is_attacked(keras2: pathlib.Path) -> None:
    opened = open_model(keras2 / "convolutional")
    result = mnist_adv.attack(opened.model, _images(3), targets=2, epsilon=0.5)
    assert result.success.all()


class _Module(tf.Module):
    """Two layers whose variables have the same name."""

    def __init__(self, deviation: float = 0.1) -> None:
        super().__init__()
        self.first = tf.Variable(tf.random.stateless_normal([784, 8], [0, 1], 0, deviation))
        self.calls = tf.Variable(0)
        self.second = tf.Variable(tf.random.stateless_normal([8, 10], [0, 2]))

    def logits(self, pixels: Any) -> Any:
        return tf.nn.relu(pixels @ self.first) @ self.second


def _save(path: pathlib.Path, function: Callable[[Any, Any], Any], *, spec: Any = FLAT) -> str:
    """Save a function of images; a `_Module` beside it brings its variables."""
    module = _Module()
    signature = tf.function(
        lambda images: {"outputs": function(module, images)},
        input_signature=[spec],
        autograph=False,
    )
    tf.saved_model.save(module, str(path), signatures=signature)
    return str(path)


def test_module_with_variables_of_one_name(tmp_path: pathlib.Path) -> None:
    opened = open_model(_save(tmp_path / "saved", _Module.logits))
    assert opened.notes[0] == "took signature serving_default: images to outputs"
    expected = _Module().logits(_images().reshape(-1, 784))
    np.testing.assert_allclose(opened.model(_images()), expected, atol=1e-5)


def test_values_may_lie_in_several_files(tmp_path: pathlib.Path) -> None:
    folder = pathlib.Path(_save(tmp_path / "saved", _Module.logits))
    prefix = str(folder / "variables/variables")
    reader = tf.train.load_checkpoint(prefix)
    values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    shutil.rmtree(folder / "variables")
    (folder / "fingerprint.pb").unlink()
    parts = []
    for number, (name, value) in enumerate(values.items()):
        parts.append(str(tmp_path / f"part{number}"))
        tf.raw_ops.SaveV2(
            prefix=parts[-1], tensor_names=[name], shape_and_slices=[""], tensors=[value]
        )
    (folder / "variables").mkdir()
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=prefix)
    assert len(list((folder / "variables").glob("*.data-*"))) == len(parts) > 1
    expected = _Module().logits(_images().reshape(-1, 784))
    np.testing.assert_allclose(open_model(folder).model(_images()), expected, atol=1e-5)
    shard = min((folder / "variables").glob("*.data-*"))
    shard.unlink()
    assert f"no file {shard}" in _refused(folder, FileNotFoundError)


@pytest.mark.parametrize("policy", ["float16", "mixed_float16"])
def test_half_precision_whose_probabilities_underflow(tmp_path: pathlib.Path, policy: str) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((28, 28, 1), dtype="float32"),
        layers.Conv2D(4, 5, dtype=policy),
        layers.Flatten(dtype=policy),
        layers.Dense(10, dtype=policy, kernel_initializer=keras.initializers.RandomNormal(0, 1)),
        layers.Activation("softmax", dtype=policy),
    ])
    model.export(tmp_path / "saved", verbose=False)
    outputs = np.asarray(model(_images()))
    assert outputs.dtype == np.float16 and (outputs == 0).any()
    opened = open_model(tmp_path / "saved")
    assert opened.notes[1] == "its last softmax was taken off: the outputs are logits"
    logits = keras.Sequential(model.layers[:-1])(_images())
    np.testing.assert_allclose(opened.model(_images()), logits, rtol=0.01, atol=0.02)
    assert opened.model(_images()).dtype == tf.float32


def test_keras_3_net_of_many_kinds_of_layers(tmp_path: pathlib.Path) -> None:
    keras.utils.set_random_seed(0)
    images = keras.Input((28, 28, 1))
    one = layers.Conv2D(8, 3, padding="same", use_bias=False)(images)
    one = layers.Activation("silu")(layers.BatchNormalization()(one))
    two = layers.SeparableConv2D(8, 3, dilation_rate=2, padding="same")(one)
    two = layers.LeakyReLU()(layers.LayerNormalization()(two))
    both = layers.AveragePooling2D(2)(layers.Add()([one, two]))
    both = layers.Conv2DTranspose(4, 3, strides=2, activation="gelu")(both)
    both = layers.ZeroPadding2D(1)(layers.UpSampling2D()(layers.MaxPool2D(3)(both)))
    both = layers.Dropout(0.5)(layers.GaussianNoise(0.1)(both))
    rows = layers.Reshape((-1, 4))(both)
    rows = layers.MultiHeadAttention(2, 4)(rows, rows)
    outputs = layers.Dense(10, activation="softmax")(layers.GlobalMaxPooling1D()(rows))
    model = keras.Model(images, outputs)
    model.export(tmp_path / "saved", verbose=False)
    opened = open_model(tmp_path / "saved")
    assert "softmax was taken off" in opened.notes[1]
    expected = model(_images(20), training=False)
    logits = opened.model(_images(20))
    np.testing.assert_allclose(tf.nn.softmax(logits), expected, atol=1e-5)
    wide = opened.model(_images(20).astype(np.float64))
    np.testing.assert_allclose(wide, logits, atol=1e-4)
    assert np.abs(np.asarray(wide) - logits).max() > 0


def test_operations_with_several_outputs(tmp_path: pathlib.Path) -> None:
    def function(module: _Module, images: Any) -> Any:
        first, second, third = tf.split(images[:, :780], [380, 300, 100], axis=1)
        left, right = tf.split(second, 2, axis=1)
        rows = tf.reshape(left - 2 * right, [-1, 5, 3, 10])
        normal, mean, _ = tf.compat.v1.nn.fused_batch_norm(rows, tf.ones(10), tf.zeros(10))
        parts = tf.unstack(normal[:, 0], axis=1)
        return parts[2] - parts[1] + mean + third[:, :10] - first[:, 370:]

    opened = open_model(_save(tmp_path / "saved", function))
    expected = function(_Module(), tf.constant(_images().reshape(-1, 784)))
    np.testing.assert_allclose(opened.model(_images()), expected, atol=1e-5)
    # The batch's own statistics have no float64 operation: float32 is used, and cast.
    outputs = opened.model(_images().astype(np.float64))
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_softmax_over_the_channels_of_one_place(tmp_path: pathlib.Path) -> None:
    def function(module: _Module, images: Any) -> Any:
        logits = tf.reshape(module.logits(images), [-1, 1, 1, 10])
        return tf.squeeze(tf.nn.softmax(logits), [1, 2])

    opened = open_model(_save(tmp_path / "saved", function))
    assert "softmax was taken off" in opened.notes[1]
    expected = _Module().logits(_images().reshape(-1, 784))
    np.testing.assert_allclose(opened.model(_images()), expected, atol=1e-5)


def test_softmax_over_something_else_stays(tmp_path: pathlib.Path) -> None:
    def function(module: _Module, images: Any) -> Any:
        halves = tf.nn.softmax(tf.reshape(module.logits(images), [-1, 2, 5]))
        return tf.reshape(halves, [-1, 10]) - 0.5

    opened = open_model(_save(tmp_path / "saved", function))
    assert not any("softmax" in note for note in opened.notes)
    assert np.isclose(np.asarray(opened.model(_images(1))).sum(), -3, atol=1e-5)


def test_float64_images_are_computed_with_in_float64(tmp_path: pathlib.Path) -> None:
    model = open_model(_save(tmp_path / "saved", _Module.logits)).model
    module = _Module()
    exact = _images().reshape(-1, 784).astype(np.float64) @ module.first.numpy().astype(np.float64)
    exact = np.maximum(exact, 0) @ module.second.numpy().astype(np.float64)
    outputs = model(_images().astype(np.float64))
    assert outputs.dtype == tf.float64
    np.testing.assert_allclose(outputs, exact, rtol=1e-13, atol=1e-13)


def test_model_stands_in_compiled_loops_with_its_shape(tmp_path: pathlib.Path) -> None:
    model = open_model(_save(tmp_path / "saved", _Module.logits)).model

    @tf.function(jit_compile=True)
    def descend(images: Any) -> Any:
        assert model(images).shape == (5, 10)

        def step(images: Any) -> tuple[Any]:
            with tf.GradientTape() as tape:
                tape.watch(images)
                value = tf.reduce_sum(model(images)[:, 3])
            return (images - 0.01 * tape.gradient(value, images),)

        (images,) = tf.while_loop(lambda images: True, step, [images], maximum_iterations=3)
        return images

    before = tf.constant(_images(5))
    assert (model(descend(before))[:, 3] < model(before)[:, 3]).numpy().all()


def test_tf1_graphs(tmp_path: pathlib.Path) -> None:
    """Resource and reference variables, a default input, and one graph without variables."""
    v1 = tf.compat.v1
    images = _images().reshape(-1, 784)
    weights = np.random.default_rng(0).normal(0, 0.1, (784, 10)).astype(np.float32)
    for name in ("resource", "reference", "frozen"):
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float32, [None, 784], "x")
            keep = v1.placeholder_with_default(1.0, [])
            W: Any = tf.constant(weights)
            if name != "frozen":
                W = v1.Variable(weights, use_resource=name == "resource", name="W")
            logits = v1.nn.dropout(x @ W + 1.0, rate=1 - keep)
            session.run(v1.global_variables_initializer())
            builder = v1.saved_model.Builder(str(tmp_path / name))
            signature = v1.saved_model.predict_signature_def(
                {"x": x}, {"y": tf.nn.softmax(logits), "class": tf.argmax(logits, 1)}
            )
            builder.add_meta_graph_and_variables(
                session,
                ["serve", "cpu"],
                {"other": signature},
                main_op=v1.tables_initializer(),
            )
            builder.save()
        opened = open_model(tmp_path / name)
        assert opened.notes[:2] == (
            "took signature other: x to y",
            "its last softmax was taken off: the outputs are logits",
        )
        np.testing.assert_allclose(opened.model(_images()), images @ weights + 1, atol=1e-5)


@pytest.mark.parametrize("kind", ["Switch", "If"])
def test_choice_between_training_and_inference(
    tmp_path: pathlib.Path, request: pytest.FixtureRequest, kind: str
) -> None:
    v1 = tf.compat.v1
    request.addfinalizer(v1.enable_control_flow_v2)
    if kind == "Switch":
        v1.disable_control_flow_v2()
    weights = np.random.default_rng(0).normal(0, 0.1, (784, 10)).astype(np.float32)
    with tf.Graph().as_default() as graph, v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 784], "x")
        training = v1.placeholder_with_default(False, [])
        W = v1.Variable(weights)
        y = v1.cond(training, lambda: v1.nn.dropout(x, rate=0.5), lambda: x) @ W
        y = v1.cond(tf.logical_not(training), lambda: 2.0 * y, lambda: tf.constant(7.0))
        assert any(operation.type == kind for operation in graph.get_operations())
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(tmp_path / "saved"), {"x": x}, {"y": y})
    expected = 2 * _images().reshape(-1, 784) @ weights
    np.testing.assert_allclose(open_model(tmp_path / "saved").model(_images()), expected, atol=1e-5)


def test_choice_by_the_pixels(tmp_path: pathlib.Path) -> None:
    def function(module: _Module, images: Any) -> Any:
        logits = module.logits(images)
        return tf.cond(images[0, 0] > 0.5, lambda: logits, lambda: -logits)

    message = _refused(_save(tmp_path / "saved", function))
    assert "chooses by Greater" in message and "choices that stand in the file" in message


def test_operations_that_no_classifier_computes(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def beside(module: _Module, images: Any) -> Any:
        tf.io.write_file("exploded", "here")
        return module.logits(images)

    def inside(module: _Module, images: Any) -> Any:
        content = tf.io.decode_raw(tf.io.read_file("secret"), tf.float32)
        return module.logits(images) + content

    def python(module: _Module, images: Any) -> Any:
        bomb = tf.numpy_function(lambda x: pathlib.Path("exploded").touch(), [images], tf.float32)
        return module.logits(images) + tf.ensure_shape(bomb, [])

    def changing(module: _Module, images: Any) -> Any:
        module.second.assign_add(tf.ones([8, 10]))
        return module.logits(images)

    def deep(module: _Module, images: Any) -> Any:
        return tf.function(lambda: beside(module, images))()

    def endless(module: _Module, images: Any) -> Any:
        return tf.while_loop(
            lambda x: tf.reduce_sum(x) > 0, lambda x: (x + 1,), [module.logits(images)]
        )[0]

    for function, operation in (
        (beside, "WriteFile"),
        (inside, "DecodeRaw|ReadFile"),
        (python, "PyFunc"),
        (changing, "AssignAddVariableOp"),
        (deep, "WriteFile"),
        (endless, "While|StatelessWhile"),
    ):
        message = _refused(_save(tmp_path / function.__name__, function))
        found = [f"holds the operation {name} (" in message for name in operation.split("|")]
        assert any(found), message
        assert "nothing of it was run" in message
        assert ("a variable that the outputs depend on" in message) == (function is changing)
    assert not pathlib.Path("exploded").exists()


def test_counter_of_calls_is_left_out(tmp_path: pathlib.Path) -> None:
    def function(module: _Module, images: Any) -> Any:
        module.calls.assign_add(1)
        return module.logits(images)

    opened = open_model(_save(tmp_path / "saved", function))
    expected = _Module().logits(_images().reshape(-1, 784))
    np.testing.assert_allclose(opened.model(_images()), expected, atol=1e-5)


def test_loop_of_tf1(tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> None:
    v1 = tf.compat.v1
    request.addfinalizer(v1.enable_control_flow_v2)
    v1.disable_control_flow_v2()
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 784], "x")
        y = v1.while_loop(lambda y: tf.reduce_sum(y) < 9, lambda y: (y + 1,), [x[:, :10]])
        v1.saved_model.simple_save(session, str(tmp_path / "saved"), {"x": x}, {"y": y})
    message = _refused(tmp_path / "saved")
    assert "holds the operation" in message
    assert any(f" {name} (" in message for name in ("Enter", "Exit", "LoopCond", "NextIteration"))


def test_what_a_graph_may_ask_for_is_bounded(tmp_path: pathlib.Path) -> None:
    def filled(module: _Module, images: Any) -> Any:
        return module.logits(images) + tf.reduce_sum(tf.fill([10**6, 10**5], images[0, 0]))

    def larger(module: _Module, images: Any) -> Any:
        return module.logits(images) + tf.reduce_sum(tf.fill([10**4, 10**3], images[0, 0]))

    def by_pixels(module: _Module, images: Any) -> Any:
        size = tf.cast(1e9 * tf.reduce_sum(images), tf.int32)
        return module.logits(images) + tf.reduce_sum(tf.zeros(size))

    def product(module: _Module, images: Any) -> Any:
        long = tf.reshape(tf.tile(images, [1, 10]), [-1, 1])
        return module.logits(images) + tf.reduce_sum(long @ tf.transpose(long))

    assert "Received: 100,000,000,000 for Fill" in _refused(_save(tmp_path / "1", filled))
    message = _refused(_save(tmp_path / "0", larger))
    assert "at most 8,388,608 numbers for a tensor of two images" in message
    assert "Received: 10,000,000 for Fill" in message
    assert "shape depends on the values of the pixels" in _refused(_save(tmp_path / "2", by_pixels))
    assert "Received: 245,862,400 for MatMul" in _refused(_save(tmp_path / "3", product))

    # A constant of which the file holds one number.
    def added(module: _Module, images: Any) -> Any:
        return module.logits(images) + tf.constant(3.0, shape=[1, 10])

    folder = _save(tmp_path / "4", added)

    def enlarge(graph: Any) -> None:
        for function in graph.graph_def.library.function:
            for node in function.node_def:
                if node.op == "Const" and node.attr["value"].tensor.dtype == 1:
                    node.attr["value"].tensor.tensor_shape.dim[0].size = 10**9

    _change(folder, enlarge)
    assert "Received: 10,000,000,000 for Const" in _refused(folder)


def test_functions_that_call_themselves(tmp_path: pathlib.Path) -> None:
    folder = _save(tmp_path / "saved", _Module.logits)

    def change(graph: Any) -> None:
        for function in graph.graph_def.library.function:
            for node in function.node_def:
                if node.op == "StatefulPartitionedCall":
                    node.attr["f"].func.name = function.signature.name

    _change(folder, change)
    assert "must call functions at most 100 deep" in _refused(folder)


def _change(folder: str, change: Callable[[Any], None]) -> None:
    file = pathlib.Path(folder) / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(saved.meta_graphs[0])
    file.write_bytes(saved.SerializeToString())
    (file.parent / "fingerprint.pb").unlink(missing_ok=True)


def test_what_is_missing_is_named(tmp_path: pathlib.Path) -> None:
    original = _save(tmp_path / "original", _Module.logits)

    def copy() -> str:
        return str(shutil.copytree(original, tmp_path / str(len(list(tmp_path.iterdir())))))

    folder = copy()
    index = pathlib.Path(folder) / "variables/variables.index"
    index.unlink()
    assert f"no file {index}" in _refused(folder, FileNotFoundError)
    folder = copy()
    shutil.rmtree(pathlib.Path(folder) / "variables")
    assert "variables" in _refused(folder, FileNotFoundError)
    folder = copy()
    index = pathlib.Path(folder) / "variables/variables.index"
    index.write_bytes(index.read_bytes()[:60])
    assert f"{index} is damaged (its checksum is not the one in fingerprint.pb)" in _refused(folder)
    (pathlib.Path(folder) / "fingerprint.pb").unlink()
    assert f"{folder}/variables/variables is damaged" in _refused(folder)

    def other_tag(graph: Any) -> None:
        graph.meta_info_def.tags[:] = ["train", "gpu"]

    def other_shape(graph: Any) -> None:
        for node in graph.graph_def.node:
            if node.op == "VarHandleOp":
                for dimension in node.attr["shape"].shape.dim:
                    dimension.size += dimension.size == 784

    def other_input(graph: Any) -> None:
        graph.signature_def["serving_default"].inputs["images"].name = "elsewhere:0"

    def no_restoring(graph: Any) -> None:
        graph.saver_def.restore_op_name = ""

    for change, message in (
        (other_tag, "must hold a graph with the tag serve. Received: tags train, gpu"),
        (other_shape, "of shape (785, 8), and values for it of shape (784, 8)"),
        (other_input, "saved_model.pb is damaged (no node elsewhere)"),
        (no_restoring, "has no values as Variable"),
    ):
        folder = copy()
        _change(folder, change)
        assert message in _refused(folder)


def test_maps_are_hashed_in_the_order_of_their_keys(tmp_path: pathlib.Path) -> None:
    """The oracle is TensorFlow's own checksum of the file."""
    from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

    saved = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    graph = saved.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    function = graph.graph_def.library.function.add()
    for number in (0, 1, 2, 300, 2**32 - 1):
        function.arg_attr[number].attr["s"].s = b"text"
        function.resource_arg_unique_id[number] = 7
    for name in ("T", "Tidx", "Tid", "a", "", "\u00e9", "\u00e9a"):
        function.attr[name].func.attr[name + "1"].i = 3
        function.attr[name].list.func.add().attr[name].b = True
        function.ret[name] = name
        graph.signature_def[name].inputs[name].name = name
        graph.collection_def[name].int64_list.value.append(1)
    file = tmp_path / "saved_model.pb"
    for content in (saved.SerializeToString(), saved.SerializeToString(deterministic=True)):
        file.write_bytes(content)
        (tmp_path / "fingerprint.pb").unlink(missing_ok=True)
        made = fingerprinting.CreateFingerprintDef(str(tmp_path))
        (tmp_path / "fingerprint.pb").write_bytes(made)
        saved_fingerprint.require_same(tmp_path, saved)
    function.arg_attr[1].attr["s"].s = b"tixt"
    with pytest.raises(ValueError, match="checksum is not the one"):
        saved_fingerprint.require_same(tmp_path, saved)
    (tmp_path / "fingerprint.pb").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"fingerprint\.pb is damaged"):
        saved_fingerprint.require_same(tmp_path, saved)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("is_frozen", [False, True])
def test_damage_is_refused(tmp_path: pathlib.Path, is_frozen: bool) -> None:
    weights = np.random.default_rng(0).normal(0, 0.1, (784, 10)).astype(np.float32)
    function = (lambda module, images: images @ weights) if is_frozen else _Module.logits
    folder = pathlib.Path(_save(tmp_path / "saved", function))
    clean = open_model(folder).model(_images(2))
    file = folder / "saved_model.pb"
    intact = file.read_bytes()
    file.write_bytes(intact[:2])
    assert "saved_model.pb is damaged (it holds no graph)" in _refused(folder)
    refused = 0
    for place in np.linspace(2, len(intact) - 1, 60).astype(int):
        file.write_bytes(intact[:place])
        assert "saved_model.pb is damaged" in _refused(folder)
        content = bytearray(intact)
        content[place] ^= 1 << (place % 8)
        file.write_bytes(content)
        try:
            outputs = open_model(folder).model(_images(2))
        except (ValueError, FileNotFoundError) as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            np.testing.assert_array_equal(outputs, clean)
    assert refused > 50
