"""Times `tile bench` and PyTorch's scaled_dot_product_attention on the CPU, in turns, in one run.

    cargo build --release -p tilewright-cli
    bench/setup
    bench/.venv/bin/python bench/torch_sdpa.py

Each round times one side, then the other, and the next round begins with the other side, so that a slow spell of the machine
hits both. PyTorch is asked both ways, with grouped heads (`enable_gqa`) and with keys and values already repeated for each
query head (the repeat is not timed); the faster one is the peer. Printed: the median of the rounds' medians of both, GFLOP/s by
`4 * B * Hq * attended pairs * D`, and the ratio.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

DEFAULT_TILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "target", "release", "tile")


def tile_round(tile, case, threads, seconds):
    """One row of `tile bench`, measured in a process of its own."""
    command = [tile, "bench", case, "--threads", str(threads), "--seconds", str(seconds), "--json", "-"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)} failed:\n{done.stderr}")
    rows = json.loads(done.stdout)["rows"]
    if len(rows) != 1:
        sys.exit(f"error: {case} names {len(rows)} cases; give one of: {', '.join(row['case'] for row in rows)}")
    return rows[0]


def torch_round(attend, seconds):
    """Median seconds of calls repeated for about this long, after one that is not counted."""
    attend()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        started = time.perf_counter()
        attend()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def peers(row):
    """The ways to ask PyTorch for the case of this row, by name."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[row["dtype"]]
    torch.manual_seed(0)
    size = {name: row[name] for name in ("batch", "q_heads", "kv_heads", "q_len", "capacity", "head_dim")}
    q = torch.randn(size["batch"], size["q_heads"], size["q_len"], size["head_dim"]).to(dtype)
    k, v = (torch.randn(size["batch"], size["kv_heads"], size["capacity"], size["head_dim"]).to(dtype) for _ in "kv")
    group = size["q_heads"] // size["kv_heads"]
    wide_k, wide_v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    if row["features"] not in ("none", "causal"):
        sys.exit(f"error: PyTorch is not asked for {row['features']} here; give a case that is plain or causal")
    causal = row["features"] == "causal"
    if causal and size["q_len"] != size["capacity"]:
        sys.exit("error: PyTorch's is_causal is top-left, ours bottom-right: only square causal cases compare")
    return {
        "torch, grouped": lambda: scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True),
        "torch, repeated": lambda: scaled_dot_product_attention(q, wide_k, wide_v, is_causal=causal),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", nargs="?", default="prefill_causal_h16_d128_2048/f32")
    parser.add_argument("--tile", default=DEFAULT_TILE, help="the tile binary")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each side in each round")
    args = parser.parse_args()

    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import torch

    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    row = tile_round(args.tile, args.case, args.threads, 0.1)
    sides = {"tilewright": lambda: tile_round(args.tile, args.case, args.threads, args.seconds)["seconds"]}
    for name, attend in peers(row).items():
        sides[name] = lambda attend=attend: torch_round(attend, args.seconds)

    rounds = {name: [] for name in sides}
    for index in range(args.rounds):
        order = list(sides) if index % 2 == 0 else list(sides)[::-1]
        for name in order:
            rounds[name].append(sides[name]())

    print(f"{row['case']}, {args.threads} threads, {args.rounds} rounds, torch {torch.__version__}")
    medians = {name: statistics.median(times) for name, times in rounds.items()}
    for name, median in medians.items():
        times = rounds[name]
        rate = row["flops"] / median / 1e9
        print(f"{name:16} {median * 1e3:9.2f} ms  [{min(times) * 1e3:.2f}, {max(times) * 1e3:.2f}]  {rate:7.1f} GFLOP/s")
    best = min((name for name in medians if name != "tilewright"), key=medians.get)
    print(f"{best} takes {medians[best] / medians['tilewright']:.3f} times as long as tilewright")


if __name__ == "__main__":
    main()
