"""OpenVINO on the CPU: the operation ScaledDotProductAttention in a compiled model of its own.

Decode and verify come with the heads of a group folded into query rows as well.
"""

import numpy
import openvino
from openvino import opset13 as ops
from protocol import Peer, causal_mask, group, inputs, needs

TYPES = {"f32": openvino.Type.f32, "f16": openvino.Type.f16, "bf16": openvino.Type.bf16}


def model(case, dtype, q, k, v, mask, causal):
    """A function that runs attention over these arrays, whose result is [batch, heads, q_len, value_dim] of q."""
    tensors = [openvino_tensor(x, dtype) for x in (q, k, v) + (() if mask is None else (mask,))]
    parameters = [ops.parameter(list(tensor.shape), dtype) for tensor in tensors]
    attention = ops.scaled_dot_product_attention(*parameters[:3], *parameters[3:], causal=causal)
    compiled = openvino.Core().compile_model(
        openvino.Model([attention], parameters, "attention"),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": dtype,
            "EXECUTION_MODE_HINT": "PERFORMANCE",
            "INFERENCE_NUM_THREADS": case["threads"],
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "KV_CACHE_PRECISION": dtype,
        },
    )
    request = compiled.create_infer_request()
    for index, tensor in enumerate(tensors):
        request.set_input_tensor(index, tensor)

    def way():
        request.infer()
        return request.get_output_tensor(0)

    way.threads = compiled.get_property("INFERENCE_NUM_THREADS")
    return way


def openvino_tensor(array, dtype):
    """The array in this type, in memory of OpenVINO."""
    tensor = openvino.Tensor(dtype, openvino.Shape(array.shape))
    if dtype == openvino.Type.bf16:
        tensor.data.view(numpy.uint16)[:] = bf16_bits(array)
    else:
        tensor.data[:] = array
    return tensor


def bf16_bits(array):
    """The upper halves of f32 numbers, rounded to even."""
    bits = array.astype(numpy.float32).view(numpy.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(numpy.uint16)


def numbers(tensor):
    """A tensor of any float type as f32."""
    if tensor.element_type == openvino.Type.bf16:
        bits = tensor.data.view(numpy.uint16).astype(numpy.uint32) << 16
        return bits.view(numpy.float32)
    return tensor.data.astype(numpy.float32)


def prepare(case):
    needs(case)
    dtype = TYPES[case["dtype"]]
    q, k, v, added = inputs(case)
    rounded = tuple(None if x is None else numbers(openvino_tensor(x, dtype)) for x in (q, k, v, added))
    square = case["q_len"] == case["kv_len"]
    # Its own causal mask lies along the first key, so it serves square cases alone.
    causal = case["mask"] == "causal" and square
    mask = added
    if case["mask"] == "causal" and not square:
        mask = causal_mask(case)

    of = group(case)
    shape = (case["batch"], case["q_heads"], case["q_len"], case["value_dim"])
    makers = {}
    if of == 1:
        makers["plain"] = lambda: model(case, dtype, q, k, v, mask, causal)
    else:
        makers["grouped"] = lambda: model(case, dtype, q, k, v, mask, causal)
        makers["repeated"] = lambda: model(case, dtype, q, *(x.repeat(of, axis=1) for x in (k, v)), mask, causal)
    inexact = ()
    if case["q_len"] <= 64:
        folded = q.reshape(case["batch"], case["kv_heads"], of * case["q_len"], case["head_dim"])
        tall = None if mask is None else numpy.tile(mask, (of, 1))
        makers["folded"] = lambda: model(case, dtype, folded, k, v, tall, False)
        if mask is not None:
            makers["folded, all keys"] = lambda: model(case, dtype, folded, k, v, None, False)
            inexact = ("folded, all keys",)

    ways, threads = {}, set()
    for name, make in makers.items():
        try:
            ways[name] = make()
            threads.add(ways[name].threads)
        except RuntimeError as error:
            ways[name] = refusing(error)
    version = f"openvino {openvino.__version__.split('-')[0]} ({case['dtype']} inference)"
    return Peer(version, max(threads, default=None), ways, lambda o: numbers(o).reshape(shape), rounded, inexact)


def refusing(error):
    """A way that says why there is none."""

    def way():
        raise error

    return way
