"""Find a perceptron among named variables by their shapes alone.

Old programs named their variables as they liked, or not at all (`Variable`, `Variable_1`), so
shapes decide; names decide only between equal shapes. Where neither does, the file is refused.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence

from mnist_adv.models.formats.shapes import listing

Shapes = Mapping[str, Sequence[int]]

# More matrices than any classifier of digits needs; beyond, a search for an order could take long.
_MOST_LAYERS = 32

_SLOT = re.compile(
    r"/(Adam|AdaMax|Nadam|Momentum|RMSProp|Adagrad|AdagradDA|ProximalAdagrad|Adadelta|Ftrl|Linear|"
    r"ExponentialMovingAverage|gradient_accumulator|gradient_squared_accumulator)(_\d+)?$"
    r"|\.OPTIMIZER_SLOT/|(^|/)_?optimizer/"
)


@dataclasses.dataclass(frozen=True)
class Layer:
    """The names of one layer's variables.

    Attributes:
        weights: of the matrix.
        bias: of the vector; None if the layer has none.
    """

    weights: str
    bias: str | None


@dataclasses.dataclass(frozen=True)
class Chain:
    """A perceptron's layers, first to last.

    Attributes:
        layers: their variables' names.
        transposed: whether the matrices are stored `[outputs, inputs]`.
    """

    layers: tuple[Layer, ...]
    transposed: bool


def find_chain(shapes: Shapes, num_classes: int | None, where: str, num_pixels: int = 784) -> Chain:
    """Order the variables of a perceptron, from the pixels to the classes.

    Optimizer slots, moving averages and scalars are passed over; everything else must have its
    place in the chain, or the file holds more than a perceptron.

    Args:
        shapes: name -> shape, of the variables that hold floats.
        num_classes: of the model; None: the last layer says.
        where: the file, for the messages.
        num_pixels: of an image, all channels counted.

    Returns:
        The only chain that the shapes, and between equal shapes the names, allow.

    Raises:
        ValueError: there is none, or more than one; the message lists names and shapes.
    """
    own = {name: shape for name, shape in shapes.items() if shape and not is_slot(name, shapes)}
    matrices = {name: tuple(shape) for name, shape in own.items() if is_matrix(shape)}
    vectors = {name: _length(shape) for name, shape in own.items() if _length(shape)}
    if not any(num_pixels in shape for shape in matrices.values()):
        raise ValueError(
            f"{where} holds no [{num_pixels}, ...] weights, so it is of another task than "
            f"images of {num_pixels} pixels. It holds: {listing(own or shapes)}"
        )
    rest = [name for name in own if name not in matrices and name not in vectors]
    for transposed in (False, True):
        # A layer of one shape twice is one entry here: which is first, the names must say.
        orders = [] if rest else list(_orders(matrices, num_pixels, num_classes, transposed))
        if len(orders) == 1:
            chain = _name(orders[0], matrices, vectors, transposed)
            if chain is not None:
                return chain
    raise ValueError(
        f"{where} does not say which of its variables make the model from {num_pixels} pixels to "
        f"{num_classes or 'the'} classes; name them with --variables W=NAME,b=NAME (several "
        f"layers: W1=NAME,b1=NAME,W2=NAME,b2=NAME). It holds: {listing(own)}"
    )


def follow(
    variables: Mapping[str, str],
    shapes: Shapes,
    num_classes: int | None,
    where: str,
    num_pixels: int = 784,
) -> Chain:
    """Build the chain that a person named.

    Args:
        variables: role -> name; roles are W and b, or W1, b1, W2, b2, ...
        shapes: name -> shape, of the variables that hold floats.
        num_classes: of the model; None: the last layer says.
        where: the file, for the messages.
        num_pixels: of an image, all channels counted.

    Returns:
        The chain.

    Raises:
        ValueError: an unknown role or name, or shapes that do not follow one another from the
            pixels to the classes.
    """
    numbers = sorted({_role(role)[1] for role in variables})
    layers = []
    for number in numbers:
        names = {
            _role(role)[0]: name for role, name in variables.items() if _role(role)[1] == number
        }
        for name in names.values():
            if name not in shapes:
                raise ValueError(f"{where} holds no {name!r}. It holds: {listing(shapes)}")
        if "W" not in names:
            raise ValueError(f"--variables gives no weights for b{number or ''}; add W=NAME")
        layers.append(Layer(names["W"], names.get("b")))
    for transposed in (False, True):
        if _fits(layers, shapes, (num_pixels, num_classes), transposed):
            return Chain(tuple(layers), transposed)
    taken = {name: shapes[name] for layer in layers for name in (layer.weights, layer.bias) if name}
    raise ValueError(
        f"--variables must lead from {num_pixels} pixels to {num_classes or 'the'} classes, each "
        f"layer's inputs the outputs of the one before. Received: {listing(taken)}"
    )


def is_slot(name: str, shapes: Shapes) -> bool:
    """Tell an optimizer's (or a moving average's) variable from a model's.

    Args:
        name: of the variable.
        shapes: all variables of the file.

    Returns:
        Whether it carries a known slot's name, or is `OWNER/...` of an owner of the same shape.
    """
    if _SLOT.search(name):
        return True
    owner, _, _ = name.rpartition("/")
    return owner in shapes and list(shapes[owner]) == list(shapes[name])


def is_matrix(shape: Sequence[int]) -> bool:
    """Tell the shape of weights from that of a bias, which may be stored as a row.

    Args:
        shape: of an array.

    Returns:
        Whether it has two dimensions, both above 1.
    """
    return len(shape) == 2 and min(shape) > 1


def _length(shape: Sequence[int]) -> int:
    """Give a vector's length ([n] or [1, n]); 0 for what is none."""
    is_vector = len(shape) == 1 or (len(shape) == 2 and shape[0] == 1)
    return shape[-1] if is_vector else 0


def _orders(
    matrices: Mapping[str, tuple[int, ...]],
    num_pixels: int,
    num_classes: int | None,
    transposed: bool,
) -> Iterator[list[tuple[int, ...]]]:
    """Yield every order of all the shapes that leads from the pixels to the classes."""
    left = list(matrices.values())
    if len(left) > _MOST_LAYERS:
        return

    def extend(taken: list[tuple[int, ...]], width: int) -> Iterator[list[tuple[int, ...]]]:
        if not left:
            if num_classes in (None, width):
                yield list(taken)
            return
        for shape in sorted(set(left)):
            inputs, outputs = shape[::-1] if transposed else shape
            if inputs == width:
                left.remove(shape)
                yield from extend([*taken, shape], outputs)
                left.append(shape)

    yield from extend([], num_pixels)


def _name(
    order: list[tuple[int, ...]],
    matrices: Mapping[str, tuple[int, ...]],
    vectors: Mapping[str, int],
    transposed: bool,
) -> Chain | None:
    """Give each place of an order its variables, or None where names do not tell them apart."""
    queues = {
        shape: _in_order([name for name in matrices if matrices[name] == shape])
        for shape in set(order)
    }
    if any(queue is None for queue in queues.values()):
        return None
    weights = [(queues[shape] or []).pop(0) for shape in order]
    widths = [shape[0] if transposed else shape[1] for shape in order]
    biases: dict[str, str] = {}
    for width in set(widths):
        layers = [name for name, outputs in zip(weights, widths) if outputs == width]
        candidates = [name for name, length in vectors.items() if length == width]
        if candidates:
            pairs = _pair(layers, candidates)
            if pairs is None:
                return None
            biases.update(pairs)
    if len(biases) < len(vectors):
        return None
    return Chain(tuple(Layer(name, biases.get(name)) for name in weights), transposed)


def _pair(weights: list[str], biases: list[str]) -> dict[str, str] | None:
    """Pair layers of one width with their biases: by scope, by number, then by order."""
    if len(weights) != len(biases):
        return None
    if len(weights) == 1:
        return {weights[0]: biases[0]}
    for key in (_scope, _numbers):
        by_key = {key(name): name for name in biases}
        keys = {key(name) for name in weights}
        if len(keys) == len(by_key) == len(weights) and keys == set(by_key):
            return {name: by_key[key(name)] for name in weights}
    ordered, following = _in_order(weights), _in_order(biases)
    return dict(zip(ordered, following)) if ordered and following else None


def _in_order(names: list[str]) -> list[str] | None:
    """Sort names that differ in their numbers alone; None if they differ otherwise."""
    if len({re.sub(r"_?\d+", "", name) for name in names}) > 1:
        return None
    if len({_numbers(name) for name in names}) < len(names):
        return None
    return sorted(names, key=_numbers)


def _scope(name: str) -> str | tuple[int, ...]:
    return name.rpartition("/")[0]


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", name))


def _role(role: str) -> tuple[str, int]:
    found = re.fullmatch(r"([Wb])(\d*)", role)
    if found is None:
        raise ValueError(
            f"--variables must give the roles W and b, or W1, b1, W2, b2, .... Received: {role!r}"
        )
    return found.group(1), int(found.group(2) or 0)


def _fits(
    layers: Sequence[Layer], shapes: Shapes, ends: tuple[int, int | None], transposed: bool
) -> bool:
    width, num_classes = ends
    for layer in layers:
        shape = shapes[layer.weights]
        if len(shape) != 2:
            return False
        inputs, outputs = shape[::-1] if transposed else shape
        if inputs != width or (layer.bias and _length(shapes[layer.bias]) != outputs):
            return False
        width = outputs
    return num_classes in (None, width)
