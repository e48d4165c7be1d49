"""onnxruntime on the CPU: the operator Attention of opset 23, and its own MultiHeadAttention and GroupQueryAttention.

Each is a model of one node, fed through an I/O binding, so that nothing is copied.
"""

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper
from protocol import FEW, Peer, causal_mask, group, inputs, needs

TYPES = {"f32": (numpy.float32, TensorProto.FLOAT), "f16": (numpy.float16, TensorProto.FLOAT16)}


def session(case, node, arrays, output):
    """A function that runs this node over these named arrays and gives its output."""
    numbers, _ = TYPES[case["dtype"]]
    infos = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in arrays.items()]
    result = helper.make_tensor_value_info("o", helper.np_dtype_to_tensor_dtype(numpy.dtype(numbers)), output)
    graph = helper.make_graph([node], "attention", infos, [result])
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=11)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = case["threads"]
    options.log_severity_level = 3
    made = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = made.io_binding()
    held = {name: onnxruntime.OrtValue.ortvalue_from_numpy(x) for name, x in arrays.items()}
    for name, value in held.items():
        binding.bind_ortvalue_input(name, value)
    into = onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(output), numbers)
    binding.bind_ortvalue_output("o", into)

    def way():
        made.run_with_iobinding(binding)
        return into.numpy()

    return way


def flat(x):
    """[batch, heads, length, dim] as [batch, length, heads * dim]."""
    batch, heads, length, dim = x.shape
    return numpy.ascontiguousarray(x.transpose(0, 2, 1, 3)).reshape(batch, length, heads * dim)


def attention(case, q, k, v, mask, causal):
    """Attention of opset 23, over [batch, heads, length, dim]."""
    arrays = {"q": q, "k": k, "v": v} | ({} if mask is None else {"mask": mask})
    node = helper.make_node("Attention", list(arrays), ["o"], is_causal=int(causal))
    return session(case, node, arrays, q.shape[:3] + v.shape[3:])


def multi_head(case, q, k, v, mask, causal):
    """MultiHeadAttention: as many key/value heads as query heads. The result is [batch, length, heads * dim]."""
    arrays = {"q": flat(q), "k": flat(k), "v": flat(v)}
    names = list(arrays)
    if mask is not None:
        arrays["bias"] = mask[None, None]
        names += ["", "", "bias"]
    node = helper.make_node(
        "MultiHeadAttention", names, ["o"], domain="com.microsoft", num_heads=q.shape[1], unidirectional=int(causal)
    )
    return unflat(session(case, node, arrays, (q.shape[0], q.shape[2], q.shape[1] * v.shape[3])), q, v)


def grouped(case, q, k, v):
    """GroupQueryAttention: causal, over all keys but the last ones as a cache, to which the last ones are added."""
    past = k.shape[2] - q.shape[2]
    lengths = numpy.full(q.shape[0], k.shape[2] - 1, numpy.int32)
    arrays = {"q": flat(q), "k": flat(k[:, :, past:]), "v": flat(v[:, :, past:])}
    # The cache has room for the new ones and is updated in place.
    arrays |= {"past_k": k.copy(), "past_v": v.copy()}
    arrays |= {"lengths": lengths, "total": numpy.array([k.shape[2]], numpy.int32)}
    node = helper.make_node(
        "GroupQueryAttention",
        list(arrays),
        ["o", "present_k", "present_v"],
        domain="com.microsoft",
        num_heads=q.shape[1],
        kv_num_heads=k.shape[1],
    )
    return unflat(session(case, node, arrays, (q.shape[0], q.shape[2], q.shape[1] * v.shape[3])), q, v)


def unflat(way, q, v):
    """The result as [batch, heads, length, dim], a view."""
    return lambda: way().reshape(q.shape[0], q.shape[2], q.shape[1], v.shape[3]).transpose(0, 2, 1, 3)


def prepare(case):
    needs(case, dtypes=tuple(TYPES))
    numbers, _ = TYPES[case["dtype"]]
    q, k, v, added = (None if x is None else x.astype(numbers) for x in inputs(case))
    of = group(case)
    square = case["q_len"] == case["kv_len"]
    causal = case["mask"] == "causal" and square
    mask = added
    if case["mask"] == "causal" and not square:
        mask = causal_mask(case).astype(numbers)
    shape = (case["batch"], case["q_heads"], case["q_len"], case["value_dim"])

    makers = {"Attention": lambda: attention(case, q, k, v, mask, causal)}
    if of == 1:
        makers["MultiHeadAttention"] = lambda: multi_head(case, q, k, v, mask, causal)
    elif case["q_len"] > FEW:
        wide_k, wide_v = (x.repeat(of, axis=1) for x in (k, v))
        makers["Attention, repeated"] = lambda: attention(case, q, wide_k, wide_v, mask, causal)
        makers["MultiHeadAttention, repeated"] = lambda: multi_head(case, q, wide_k, wide_v, mask, causal)
    if case["mask"] == "causal" or case["q_len"] == 1:
        makers["GroupQueryAttention"] = lambda: grouped(case, q, k, v)
    inexact = ()
    if case["q_len"] <= FEW and of > 1:
        folded = q.reshape(case["batch"], case["kv_heads"], of * case["q_len"], case["head_dim"])
        tall = None if mask is None else numpy.tile(mask, (of, 1))
        makers["Attention, folded"] = lambda: attention(case, folded, k, v, tall, False)
        makers["MultiHeadAttention, folded"] = lambda: multi_head(case, folded, k, v, tall, False)
        if mask is not None:
            makers["Attention, folded, all keys"] = lambda: attention(case, folded, k, v, None, False)
            makers["MultiHeadAttention, folded, all keys"] = lambda: multi_head(case, folded, k, v, None, False)
            inexact = ("Attention, folded, all keys", "MultiHeadAttention, folded, all keys")

    ways = {}
    for name, make in makers.items():
        try:
            ways[name] = make()
        except Exception as error:  # of several types, and not all of them are public
            ways[name] = refusing(error)
    rounded = tuple(None if x is None else x.astype(numpy.float32) for x in (q, k, v, added))
    version = f"onnxruntime {onnxruntime.__version__}"
    return Peer(version, case["threads"], ways, lambda o: o.astype(numpy.float32).reshape(shape), rounded, inexact)


def refusing(error):
    """A way that says why there is none."""

    def way():
        raise error

    return way
