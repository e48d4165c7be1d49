"""PyTorch on the CPU: `scaled_dot_product_attention` with grouped heads in every way there is to ask for them."""

import math

import torch
from protocol import FEW, Peer, causal_mask, group, inputs, needs
from torch.nn.functional import scaled_dot_product_attention as sdpa

TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def prepare(case):
    needs(case)
    torch.set_num_threads(case["threads"])
    torch.set_grad_enabled(False)
    dtype = TYPES[case["dtype"]]
    q, k, v, added = inputs(case)
    q, k, v = (torch.from_numpy(x).to(dtype).contiguous() for x in (q, k, v))
    batch, heads, q_len, dim = q.shape
    kv_heads, kv_len, value_dim = k.shape[1], k.shape[2], v.shape[3]
    square = q_len == kv_len
    # PyTorch's own causal mask lies along the first key, so it serves square cases alone.
    is_causal = case["mask"] == "causal" and square
    mask = torch.from_numpy(added).to(dtype) if added is not None else None
    rounded = tuple(x if x is None else x.float().numpy() for x in (q, k, v, mask))
    if case["mask"] == "causal" and not square:
        mask = torch.from_numpy(causal_mask(case)).to(dtype)

    ways = {}
    if group(case) == 1:
        ways["plain"] = lambda: sdpa(q, k, v, attn_mask=mask, is_causal=is_causal)
    else:
        ways["gqa"] = lambda: sdpa(q, k, v, attn_mask=mask, is_causal=is_causal, enable_gqa=True)
    if group(case) > 1 and q_len > FEW:
        # The repeat is not timed.
        wide_k, wide_v = (x.repeat_interleave(group(case), dim=1) for x in (k, v))
        ways["repeated"] = lambda: sdpa(q, wide_k, wide_v, attn_mask=mask, is_causal=is_causal)
    # The heads of a group as rows of one product: keys are read once for all of them.
    folded = q.reshape(batch, kv_heads, group(case) * q_len, dim)
    shape = (batch, heads, q_len, value_dim)
    added = torch.from_numpy(causal_mask(case)).to(dtype) if is_causal else mask
    tall = added.repeat(group(case), 1) if added is not None else None
    scale = 1 / math.sqrt(dim)
    keys = k.transpose(2, 3)

    def matmul():
        scores = torch.matmul(folded * scale, keys)
        scores = scores if tall is None else scores.add_(tall)
        return torch.matmul(torch.softmax(scores, dim=-1), v).reshape(shape)

    ways["matmul"] = matmul
    inexact = ()
    if q_len <= FEW:
        ways["folded"] = lambda: sdpa(folded, k, v, attn_mask=tall).reshape(shape)
        if mask is not None:
            ways["folded, all keys"] = lambda: sdpa(folded, k, v).reshape(shape)
            inexact = ("folded, all keys",)

    mkldnn = "with" if torch.backends.mkldnn.is_available() else "without"
    version = f"torch {torch.__version__} ({torch.backends.cpu.get_cpu_capability()}, {mkldnn} mkldnn)"
    return Peer(version, torch.get_num_threads(), ways, lambda o: o.float().numpy(), rounded, inexact)
