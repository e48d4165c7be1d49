"""OpenVINO on the CPU: the operation ScaledDotProductAttention in a compiled model of its own, and PagedAttention.

Decode and verify come with the heads of a group folded into query rows as well. PagedAttention is causal, over a cache in blocks to
which each run writes the new tokens again; it is no public operation, and its list of inputs is that of OpenVINO 2026.4.
"""

import numpy
import openvino
import openvino.op
from openvino import opset13 as ops
from protocol import FEW, Peer, causal_mask, group, inputs, needs

TYPES = {"f32": openvino.Type.f32, "f16": openvino.Type.f16, "bf16": openvino.Type.bf16}


def model(case, dtype, q, k, v, mask, causal):
    """A function that runs attention over these arrays."""
    tensors = [openvino_tensor(x, dtype) for x in (q, k, v) + (() if mask is None else (mask,))]
    parameters = [ops.parameter(list(tensor.shape), dtype) for tensor in tensors]
    attention = ops.scaled_dot_product_attention(*parameters[:3], *parameters[3:], causal=causal)
    return compiled(case, dtype, openvino.Model([attention], parameters, "attention"), tensors)


def compiled(case, dtype, model, tensors, cache=None):
    """A function that runs the model over these inputs and gives its first output; computing in `dtype`."""
    settings = {
        "INFERENCE_PRECISION_HINT": dtype,
        "KV_CACHE_PRECISION": cache or dtype,
        "EXECUTION_MODE_HINT": "PERFORMANCE",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": case["threads"],
        "NUM_STREAMS": 1,
    }
    made = openvino.Core().compile_model(model, "CPU", settings)
    request = made.create_infer_request()
    for index, tensor in enumerate(tensors):
        request.set_input_tensor(index, tensor)

    def way():
        request.infer()
        return request.get_output_tensor(0)

    way.threads = made.get_property("INFERENCE_NUM_THREADS")
    return way


BLOCK = 32
"""Tokens of a block of the CPU plugin's cache."""


def paged(case, dtype, computing, q, k, v):
    """PagedAttention of one sequence: the last q_len tokens are new, those before lie in a cache of this type."""
    _, heads, q_len, dim = q.shape
    _, kv_heads, kv_len, value_dim = v.shape
    blocks = -(-kv_len // BLOCK)

    def cache(x):
        x = numpy.pad(x[0], ((0, 0), (0, blocks * BLOCK - kv_len), (0, 0)))
        return openvino_tensor(x.reshape(kv_heads, blocks, BLOCK, -1).transpose(1, 0, 2, 3), dtype)

    def tokens(x):
        """The new ones: [q_len, heads * dim]."""
        x = x[0, :, x.shape[2] - q_len :]
        return openvino_tensor(x.transpose(1, 0, 2).reshape(q_len, -1), computing)

    def integers(values):
        return openvino.Tensor(numpy.array(values, numpy.int32))

    tensors = [tokens(q), tokens(k), tokens(v), cache(k), cache(v)]
    # Tokens in the cache, first tokens of sequences, blocks, first blocks of sequences; the longest context.
    tensors += [integers([kv_len - q_len]), integers([0, q_len]), integers(numpy.arange(blocks)), integers([0, blocks])]
    tensors.append(integers(kv_len))
    parameters = [ops.parameter([-1] + list(x.shape)[1:] if x.shape else [], x.element_type) for x in tensors]
    number = lambda value: ops.constant(numpy.array(value))
    none = lambda kind: ops.constant(numpy.zeros(0, kind))
    real, whole, zero = none(numpy.float32), none(numpy.int32), number(numpy.int32(0))
    scale = number(numpy.float32(dim**-0.5))
    node = openvino.op._PagedAttentionExtension(
        [x.output(0) for x in parameters[:9] + [scale, zero, real, parameters[9]]]
        # Score windows, rotated blocks, sparse prefill, sinks, eviction, types of tokens, trees of drafts: none.
        + [x.output(0) for x in (zero, whole, whole, real, real, zero, zero, real)]
        + [x.output(0) for x in (zero, whole, whole, whole, whole, none(numpy.uint8), whole)]
    )
    facts = {"num_k_heads": kv_heads, "k_head_size": dim, "num_v_heads": kv_heads, "v_head_size": value_dim}
    for name, value in facts.items():
        node.get_rt_info()[name] = value
    model = openvino.Model([ops.result(node.output(0))], parameters, "paged")
    run = compiled(case, computing, model, tensors, dtype)

    def way():
        # [q_len, heads * value_dim], of one sequence.
        return Rows(run(), (q_len, heads, value_dim))

    way.threads = run.threads
    return way


class Rows:
    """A result whose heads lie behind its tokens."""

    def __init__(self, tensor, shape):
        self.tensor, self.shape = tensor, shape

    def numbers(self):
        return numbers(self.tensor).reshape(self.shape).transpose(1, 0, 2)[None]


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
    if of > 1 and case["q_len"] > FEW:
        makers["repeated"] = lambda: model(case, dtype, q, *(x.repeat(of, axis=1) for x in (k, v)), mask, causal)
    inexact = ()
    if case["q_len"] <= FEW:
        folded = q.reshape(case["batch"], case["kv_heads"], of * case["q_len"], case["head_dim"])
        tall = None if mask is None else numpy.tile(mask, (of, 1))
        makers["folded"] = lambda: model(case, dtype, folded, k, v, tall, False)
        if mask is not None:
            makers["folded, all keys"] = lambda: model(case, dtype, folded, k, v, None, False)
            inexact = ("folded, all keys",)

    if case["batch"] == 1 and (case["mask"] == "causal" or (case["mask"] == "none" and case["q_len"] == 1)):
        makers["PagedAttention"] = lambda: paged(case, dtype, dtype, q, k, v)
        if dtype == openvino.Type.f16:
            # Where the processor has no products of f16, the plugin computes in f32.
            makers["PagedAttention, f32"] = lambda: paged(case, dtype, openvino.Type.f32, q, k, v)

    ways, threads = {}, set()
    for name, make in makers.items():
        try:
            ways[name] = make()
            threads.add(ways[name].threads)
        except RuntimeError as error:
            ways[name] = refusing(error)
    version = f"openvino {openvino.__version__.split('-')[0]}"
    array = lambda o: o.numbers() if isinstance(o, Rows) else numbers(o).reshape(shape)
    return Peer(version, max(threads, default=None), ways, array, rounded, inexact)


def refusing(error):
    """A way that says why there is none."""

    def way():
        raise error

    return way
