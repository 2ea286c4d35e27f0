"""Make ONNX graphs of networks, with a batch size that stays free, and store their weights in fewer bits."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captionless.checkpoints.quantisation import to_int8

OPSET = 18
"""Version of ONNX's operators (2022), which all current runtimes have."""
SMALLEST = 1024
"""Elements from which on a weight is stored in fewer bits."""
ROWS: dict[int, tuple[tuple[int, ...], ...]] = {2: ((0,), (1,)), 3: ((0,), (0, 1))}
"""For numbers of dimensions, those that a scale may belong to; else the first."""


def write_graph(
    network: nn.Module,
    inputs: dict[str, Tensor],
    output: str,
    path: Path,
    *,
    free: Mapping[str, tuple[str, ...]] | None = None,
    pack: Callable[[Any], None] | None = None,
) -> None:
    """Write a network as an ONNX file; the first dimension of all inputs, ``n``, is free.

    Args:
        network: a network in evaluation mode, on the CPU.
        inputs: an example of every input by its name, at least 2 rows each.
        output: the name of the output.
        path: the file to write.
        free: names of the dimensions that are free, for inputs with more than the first.
        pack: stores the weights of an ONNX model in fewer bits: ``quantise`` or ``halve``.

    Raises:
        ModuleNotFoundError: a package is missing.
    """
    import onnx
    import onnxscript  # noqa: F401  # the exporter imports it late

    sizes = {name: torch.export.Dim(name) for names in (("n",), *(free or {}).values()) for name in names}
    shapes = [{i: sizes[one] for i, one in enumerate((free or {}).get(name, ("n",)))} for name in inputs]
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network,
            tuple(inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=tuple(shapes),
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    for node in graph.graph.node:
        del node.metadata_props[:]  # where in the source a node came from, which is half of the file
        node.doc_string = ""
    if pack:
        pack(graph)
    onnx.save(graph, str(path))


def quantise(model: Any) -> None:
    """Store the weights of an ONNX model as int8 with a scale for each row or column, and restore them in the graph.

    This is the format of ``captionless.checkpoints.quantisation``. The exporter may have transposed or reshaped a
    weight; the rows that lose least are chosen, so that weights from a model in this format stay what they are.
    """
    from onnx import TensorProto, helper

    for stored, weight in _weights(model):
        if weight.ndim > 1:
            given = torch.tensor(weight)
            choices = [to_int8(given, rows) for rows in ROWS.get(weight.ndim, ((0,),))]
            values, scale = min(choices, key=lambda one: float((given - one[0] * one[1]).square().sum()))
            whole, factor, number = (f"{stored.name}.{part}" for part in ("8bit", "scale", "number"))
            nodes = [
                helper.make_node("Cast", [whole], [number], to=TensorProto.FLOAT),
                helper.make_node("Mul", [number, factor], [stored.name]),
            ]
            _restore(model, stored, {whole: values.numpy(), factor: scale.numpy()}, nodes)


def halve(model: Any) -> None:
    """Store those weights of an ONNX model in half precision that lose nothing by it, and restore them in the graph."""
    for stored, weight in _weights(model):
        if np.array_equal(weight.astype(np.float16), weight):
            _halve(model, stored, weight)


def halve_all(model: Any) -> None:
    """Round the larger weights of an ONNX model to half precision, and restore them in the graph."""
    for stored, weight in _weights(model):
        _halve(model, stored, weight)


def _halve(model: Any, stored: Any, weight: np.ndarray) -> None:
    from onnx import TensorProto, helper

    name = f"{stored.name}.half"
    cast = helper.make_node("Cast", [name], [stored.name], to=TensorProto.FLOAT)
    _restore(model, stored, {name: weight.astype(np.float16)}, [cast])


def _weights(model: Any) -> list[tuple[Any, np.ndarray]]:
    """Return the larger float32 weights of an ONNX model, as they are stored and as arrays."""
    from onnx import numpy_helper

    pairs = [(stored, numpy_helper.to_array(stored)) for stored in model.graph.initializer]
    return [(stored, weight) for stored, weight in pairs if weight.dtype == np.float32 and weight.size >= SMALLEST]


def _restore(model: Any, stored: Any, parts: Mapping[str, np.ndarray], nodes: Sequence[Any]) -> None:
    """Replace a stored weight by its packed parts and the nodes that restore it."""
    from onnx import numpy_helper

    model.graph.initializer.remove(stored)
    model.graph.initializer.extend(numpy_helper.from_array(part, name) for name, part in parts.items())
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence PyTorch's exporter, which reports its progress and its own deprecations."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
