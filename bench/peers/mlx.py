"""MLX on its CPU backend: `mx.fast.scaled_dot_product_attention`, and the two products and a softmax."""

import importlib.metadata
import math

import mlx.core as mx
import numpy
from protocol import Peer, causal_mask, group, inputs, needs

TYPES = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}


def prepare(case):
    needs(case)
    mx.set_default_device(mx.cpu)
    dtype = TYPES[case["dtype"]]
    q, k, v, added = (None if x is None else mx.array(x).astype(dtype) for x in inputs(case))
    mask = added
    if case["mask"] == "causal":
        mask = mx.array(causal_mask(case)).astype(dtype)
    scale = 1 / math.sqrt(case["head_dim"])
    of = group(case)
    shape = (case["batch"], case["q_heads"], case["q_len"], case["value_dim"])
    folded = q.reshape(case["batch"], case["kv_heads"], of * case["q_len"], case["head_dim"])
    tall = None if mask is None else mx.tile(mask, (of, 1))
    mx.eval([x for x in (q, k, v, mask, folded, tall) if x is not None])

    def evaluated(make):
        def way():
            o = make()
            mx.eval(o)
            return o

        return way

    def matmul():
        scores = (folded * scale) @ k.swapaxes(2, 3)
        scores = scores if tall is None else scores + tall
        return (mx.softmax(scores, axis=-1, precise=True) @ v).reshape(shape)

    own = "causal" if case["mask"] == "causal" else mask
    attention = mx.fast.scaled_dot_product_attention
    ways = {
        "fast": evaluated(lambda: attention(q, k, v, scale=scale, mask=own)),
        "folded": evaluated(lambda: attention(folded, k, v, scale=scale, mask=tall).reshape(shape)),
        "matmul": evaluated(matmul),
    }
    array = lambda o: numpy.array(o.astype(mx.float32))
    rounded = tuple(None if x is None else array(x) for x in (q, k, v, added))
    # It has no setting for threads; its products take OPENBLAS_NUM_THREADS.
    return Peer(f"mlx {importlib.metadata.version('mlx')} (CPU)", None, ways, array, rounded)
