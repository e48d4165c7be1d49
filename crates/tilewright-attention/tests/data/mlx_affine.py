"""Makes mlx_affine.safetensors: what MLX's affine `quantize` and `dequantize` give on the CPU.

    python3 -m venv mlx && mlx/bin/pip install "mlx[cpu]==0.32.4" numpy
    mlx/bin/python mlx_affine.py mlx_affine.safetensors

For each element type T (f32, f16, bf16) `T.x` holds rows of 128 values, and for each format (q4g32 to q8g128)
`T.FORMAT.w`, `.s`, `.b` and `.x` hold the words, scales, biases and dequantised values of those rows. The metadata
names the MLX version. `--rows N` makes N random rows instead, for a wider comparison that is not kept.
"""

import argparse

import mlx.core as mx
import numpy as np

TYPES = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}
WIDTH = 128


def patterns(largest):
    """Rows that hold one pattern throughout, so that groups of every size see it; `largest` is in T's range."""
    rng = np.random.default_rng(7)
    i = np.arange(WIDTH, dtype=np.float64)
    normal = rng.standard_normal(WIDTH)
    half = np.where(i % 2 == 0, 1.0, -1.0)
    outlier = 0.01 * normal
    outlier[[5, 40, 77, 126]] = [300.0, -300.0, 300.0, -0.5]
    rows = [
        normal,
        0 * i,
        np.where(i % 3 == 0, -0.0, 0.0),
        0 * i + 0.75,
        0 * i - 3.14159,
        half * 1.5,  # |min| = |max|: the edge is the maximum, and edge / scale a tie
        (i % 16 - 7.5) / 2,  # the same with every code between
        np.where(i % 32 == 0, 15.0, (i % 31) / 2),  # scale 1 at 4 bits: half of the values are ties
        np.where(i % 32 == 0, -255.0, -(i % 31) * 8 - 0.5),  # scale 1 at 8 bits: all of the values are ties
        np.where(i % 32 == 3, 255.0, i + 0.5),
        1e-8 * normal,  # range below the least scale
        3e-7 * normal,
        1.0 + 1e-6 * normal,
        1e-40 * normal,  # subnormal in f32
        6e-6 * normal,  # subnormal in f16
        largest * half,
        largest * np.tanh(normal),
        largest * 0.5 + 0.25 * largest * np.tanh(normal),  # the range fits T
        outlier,
        i / 8 - 3,  # ramps: past zero, up, down
        100 + i,
        -1000 - i,
        0 * i + largest,
    ]
    return np.stack(rows)


def mixed(rng, rows):
    """Rows in which each 32 values have a size, an offset and a kind of their own."""
    shape = (rows * WIDTH // 32, 32)
    size = 10.0 ** rng.uniform(-5, 3, (shape[0], 1))
    offset = rng.choice([0.0, 0.0, 1.0, -1.0, 10.0], (shape[0], 1)) * size
    values = rng.standard_normal(shape)
    coarse = np.round(values * 4) / 4  # many ties
    return (offset + size * np.where(rng.random((shape[0], 1)) < 0.3, coarse, values)).reshape(rows, WIDTH)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output")
    parser.add_argument("--rows", type=int, help="so many random rows instead of the kept ones")
    parser.add_argument("--seed", type=int, default=11)
    args = parser.parse_args()

    mx.set_default_device(mx.cpu)
    rng = np.random.default_rng(args.seed)
    tensors = {}
    for name, dtype in TYPES.items():
        if args.rows:
            values = mixed(rng, args.rows)
        else:
            values = np.concatenate([patterns(6e4 if name == "f16" else 1e5), mixed(rng, 6)])
        x = mx.array(values.astype(np.float32)).astype(dtype)
        tensors[f"{name}.x"] = x
        for bits in (4, 8):
            for group in (32, 64, 128):
                w, s, b = mx.quantize(x, group_size=group, bits=bits)
                back = mx.dequantize(w, s, b, group_size=group, bits=bits)
                assert s.dtype == b.dtype == back.dtype == dtype
                key = f"{name}.q{bits}g{group}"
                tensors |= {f"{key}.w": w, f"{key}.s": s, f"{key}.b": b, f"{key}.x": back}
    mx.save_safetensors(args.output, tensors, metadata={"mlx": mx.__version__, "device": "cpu"})


if __name__ == "__main__":
    main()
