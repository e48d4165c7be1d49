"""Cuts a captured attention layer to its first tokens and recomputes its outputs in float64.

    python3 samples/cut.py IN.safetensors OUT.safetensors --tokens 160

IN holds q [heads, tokens, dim] and k, v [kv_heads, tokens, dim], all F32, with `scale` and `causal` in its metadata.
OUT holds the first tokens of each, and `o` and `lse` computed again for them, rounded once to F32. The metadata is kept.
Needs NumPy only.
"""

import argparse
import json
import struct

import numpy as np


def read(path):
    """The tensors (all F32) and the metadata of a safetensors file."""
    with open(path, "rb") as file:
        (header_len,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(header_len))
        data = file.read()
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] != "F32":
            raise SystemExit(f"error: tensor {name} is {entry['dtype']}; only F32 is read")
        start, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(data[start:end], dtype="<f4").reshape(entry["shape"])
    return tensors, metadata


def write(path, tensors, metadata):
    """Writes F32 tensors, in the order of their names."""
    header, blobs, offset = {"__metadata__": metadata}, [], 0
    for name in sorted(tensors):
        blob = np.ascontiguousarray(tensors[name], dtype="<f4").tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(tensors[name].shape),
            "data_offsets": [offset, offset + len(blob)],
        }
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def attention(q, k, v, scale, causal):
    """`o` and `lse` (natural log) in float64, one query head at a time."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    heads, q_len, _ = q.shape
    kv_heads, kv_len, _ = k.shape
    o = np.empty((heads, q_len, v.shape[2]))
    lse = np.empty((heads, q_len))
    for head in range(heads):
        kv_head = head // (heads // kv_heads)
        scores = scale * q[head] @ k[kv_head].T
        if causal:
            position = np.arange(q_len)[:, None] + kv_len - q_len
            scores[np.arange(kv_len)[None, :] > position] = -np.inf
        top = scores.max(axis=1, keepdims=True)
        weights = np.exp(scores - top)
        total = weights.sum(axis=1, keepdims=True)
        o[head] = (weights / total) @ v[kv_head]
        lse[head] = (top + np.log(total))[:, 0]
    return o, lse


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--tokens", type=int, default=160)
    args = parser.parse_args()

    tensors, metadata = read(args.input)
    have = tensors["q"].shape[1]
    if not 0 < args.tokens <= have:
        raise SystemExit(f"error: --tokens is {args.tokens}; {args.input} has 1 to {have}")
    q, k, v = (tensors[name][:, : args.tokens] for name in "qkv")
    o, lse = attention(q, k, v, float(metadata["scale"]), metadata["causal"] == "True")
    write(args.output, {"q": q, "k": k, "v": v, "o": o, "lse": lse}, metadata)


if __name__ == "__main__":
    main()
