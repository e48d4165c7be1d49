"""The figures of a GPU: `tile bench --device cuda` and PyTorch's attention on it, in turns, in one run.

    python3 bench/gpu.py --tile target/release/tile              # all rows, a few minutes
    python3 bench/gpu.py --tile target/release/tile decode       # rows whose name holds this text
    python3 bench/gpu.py --tile target/release/tile --json gpu.json

Needs an NVIDIA GPU, PyTorch with CUDA, and the `tile` binary; no Rust. For each row the peers are timed, then `tile`, then
the peers again; a peer's figure is the better of its two, and both are printed. A prefill is timed by events around each run, a
decode or verify inside a recorded graph with several inputs in turn, on both sides. Compiled kernels go to a fresh folder, so
the first row of each kernel compiles it.

A row with a bar says what was required, as ours over theirs in speed (or a time), and whether it was reached. Peers that are
not in PyTorch are quoted from HOPPER.md's measurements on one H200 and are marked `quoted`: they were not measured here.
"""

import argparse
import dataclasses
import glob
import json
import os
import site
import statistics
import subprocess
import sys
import tempfile

FLASH, CUDNN, EFFICIENT = "flash", "cudnn", "efficient"
# Bytes that several sets of inputs reach together, so that none stays in the second-level cache (60 MB on an H200).
PAST_CACHES = 256 << 20
MOST_SETS = 16
RECORDED = 20


@dataclasses.dataclass
class Bar:
    """What is required: at least `ratio` times the speed of the best of `peers` (measured) and of `quoted` (microseconds,
    not measured here), or of another row of ours (`row`); or at most `seconds`."""

    ratio: float = 0.0
    peers: tuple = ()
    quoted: dict = dataclasses.field(default_factory=dict)
    row: str = ""
    seconds: float = 0.0


@dataclasses.dataclass
class Row:
    name: str
    batch: int
    q_heads: int
    kv_heads: int
    q_len: int
    keys: int
    dim: int
    causal: bool
    peers: tuple
    bars: tuple = ()

    @property
    def short(self):
        return self.q_len <= 64

    @property
    def kv_bytes(self):
        """Keys and values in bf16, read once."""
        return 2 * self.batch * self.kv_heads * self.keys * self.dim * 2

    @property
    def flops(self):
        pairs = self.q_len * self.keys
        if self.causal:
            pairs = sum(self.keys - self.q_len + row + 1 for row in range(self.q_len))
        return 4 * self.batch * self.q_heads * pairs * self.dim


def prefill(batch, q_heads, kv_heads, keys, dim, causal, peers, bar):
    heads = f"h{q_heads}" if q_heads == kv_heads else f"h{q_heads}_kv{kv_heads}"
    name = f"prefill{'_causal' if causal else ''}_d{dim}_b{batch}_{heads}_l{keys}"
    return Row(name, batch, q_heads, kv_heads, keys, keys, dim, causal, peers, (bar,))


def few(batch, q_heads, kv_heads, keys, dim, q_len=1, bars=()):
    kind = "decode" if q_len == 1 else f"verify_q{q_len}"
    name = f"{kind}_d{dim}_b{batch}_h{q_heads}_kv{kv_heads}_l{keys}"
    return Row(name, batch, q_heads, kv_heads, q_len, keys, dim, q_len > 1, (CUDNN, FLASH), tuple(bars))


def quoted(who, microseconds):
    return {who: microseconds}


FLASH_2 = Bar(0.9, (FLASH,))
DECODE = Bar(0.95, (CUDNN,))
B16 = "d128_b16_h32_kv8_l8192"
LIKE_PREFILL = "d128_b8_h16_l2048"

ROWS = [
    prefill(4, 32, 32, 4096, 64, False, (FLASH, CUDNN), FLASH_2),
    prefill(4, 32, 32, 4096, 64, True, (FLASH, CUDNN), FLASH_2),
    prefill(1, 32, 32, 16384, 64, True, (FLASH, CUDNN), FLASH_2),
    prefill(8, 16, 16, 2048, 128, True, (FLASH, CUDNN), FLASH_2),
    prefill(2, 16, 16, 8192, 128, False, (FLASH, CUDNN), FLASH_2),
    prefill(2, 16, 16, 8192, 128, True, (FLASH, CUDNN), FLASH_2),
    prefill(1, 16, 16, 16384, 128, True, (FLASH, CUDNN), FLASH_2),
    prefill(1, 32, 8, 8192, 128, True, (FLASH, CUDNN), FLASH_2),
    prefill(2, 8, 8, 8192, 256, False, (FLASH, CUDNN), FLASH_2),
    prefill(2, 8, 8, 8192, 256, True, (FLASH, CUDNN), FLASH_2),
    prefill(1, 8, 8, 4096, 512, True, (EFFICIENT,), Bar(2.0, (EFFICIENT,))),
    few(1, 32, 8, 4096, 128, bars=[Bar(seconds=12e-6)]),
    few(1, 32, 8, 32768, 128, bars=[DECODE]),
    few(1, 32, 8, 131072, 128, bars=[DECODE]),
    few(16, 32, 8, 8192, 128, bars=[DECODE]),
    few(64, 32, 8, 4096, 128, bars=[DECODE]),
    # FlashInfer at 3952 GB/s of keys and values.
    few(1, 16, 8, 65536, 256, bars=[Bar(0.95, (CUDNN,), quoted("FlashInfer", 2 * 8 * 65536 * 256 * 2 / 3952e9 * 1e6))]),
    few(1, 16, 8, 8192, 256),
    few(16, 32, 8, 8192, 64, bars=[DECODE]),
    few(1, 32, 8, 4096, 128, 8, [Bar(1.5, quoted=quoted("FlashInfer", 17.1))]),
    few(1, 32, 8, 4096, 128, 16, [Bar(1.5, quoted=quoted("FlashInfer", 18.2))]),
    few(1, 32, 8, 65536, 128, 8, [Bar(1.15, quoted=quoted("FlashInfer", 79.5))]),
    few(16, 32, 8, 8192, 128, 16, [Bar(1.0, quoted=quoted("FlashAttention-4", 128.0))]),
    # Beside rows of ours.
    Row(f"decode_int8_{B16}", 16, 32, 8, 1, 8192, 128, False, (), (Bar(1.7, row=f"decode_{B16}"),)),
    Row(f"decode_int4_{B16}", 16, 32, 8, 1, 8192, 128, False, (), (Bar(2.8, row=f"decode_{B16}"),)),
    Row(f"decode_paged16_{B16}", 16, 32, 8, 1, 8192, 128, False, (), (Bar(0.85, row=f"decode_{B16}"),)),
    Row(f"decode_ring_{B16}", 16, 32, 8, 1, 8192, 128, False, (), (Bar(0.95, row=f"decode_{B16}"),)),
    Row(f"prefill_causal_softcap_{LIKE_PREFILL}", 8, 16, 16, 2048, 2048, 128, True, (),
        (Bar(0.8, row=f"prefill_causal_{LIKE_PREFILL}"),)),
    Row(f"prefill_causal_as_a_mask_{LIKE_PREFILL}", 8, 16, 16, 2048, 2048, 128, True, (),
        (Bar(0.85, row=f"prefill_causal_{LIKE_PREFILL}"),)),
]
# A kernel is compiled in the first call, and launched again in every later one.
COMPILE_ROW = f"prefill_causal_{LIKE_PREFILL}"
COMPILE_SECONDS, RELAUNCH_SECONDS = 1.0, 10e-6


# The peers.


def timed(run, rounds, warm=3):
    """Median seconds of one run, by events on the GPU."""
    import torch

    for _ in range(warm):
        run()
    torch.cuda.synchronize()
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(rounds)]
    for before, after in pairs:
        before.record()
        run()
        after.record()
    torch.cuda.synchronize()
    return statistics.median(before.elapsed_time(after) for before, after in pairs) / 1e3


def graphed(runs, rounds=9):
    """Median seconds of one of these runs, which a recorded graph takes in turn."""
    import torch

    count = -(-RECORDED // len(runs)) * len(runs)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for run in runs[:3]:
            run()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for index in range(count):
                runs[index % len(runs)]()
    return timed(graph.replay, rounds) / count


class Peers:
    """One row's inputs in PyTorch, and its backends over them."""

    def __init__(self, row):
        import torch

        torch.manual_seed(0)
        self.row = row
        sets = min(MOST_SETS, -(-PAST_CACHES // row.kv_bytes)) if row.short else 1

        def tensor(heads, length):
            return torch.randn(row.batch, heads, length, row.dim, device="cuda", dtype=torch.bfloat16)

        self.sets = []
        if row.peers:
            for _ in range(sets):
                self.sets.append((tensor(row.q_heads, row.q_len), tensor(row.kv_heads, row.keys), tensor(row.kv_heads, row.keys)))

    def seconds(self, peer):
        """Of one run, or why there is none."""
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.nn.functional import scaled_dot_product_attention

        row = self.row
        backend = {
            FLASH: SDPBackend.FLASH_ATTENTION,
            CUDNN: SDPBackend.CUDNN_ATTENTION,
            EFFICIENT: SDPBackend.EFFICIENT_ATTENTION,
        }[peer]
        # PyTorch's causal is top-left: of few queries over many keys it would skip nearly all. All keys are the same work but
        # for the last few.
        options = {"is_causal": row.causal and not row.short}
        if row.q_heads != row.kv_heads:
            options["enable_gqa"] = True

        def over(q, k, v):
            def run():
                with sdpa_kernel(backend):
                    return scaled_dot_product_attention(q, k, v, **options)

            return run

        runs = [over(*tensors) for tensors in self.sets]
        try:
            return graphed(runs) if row.short else timed(runs[0], 15)
        except Exception as error:  # a backend that refuses a shape says so in one of many types
            return str(error).strip().splitlines()[0][:100] if str(error).strip() else type(error).__name__

    def all(self):
        return {peer: self.seconds(peer) for peer in self.row.peers}


def ceilings():
    """Bytes a second copied (read and written), read, and FLOP/s of a bf16 matrix product; the best of three."""
    import torch

    bytes_ = 2 << 30
    x = torch.randint(0, 100, (bytes_ // 4,), device="cuda", dtype=torch.int32)
    y = torch.empty_like(x)
    copy = max(2 * bytes_ / timed(lambda: y.copy_(x), 20) for _ in range(3))
    del y
    f = x.view(torch.float32)
    read = max(bytes_ / timed(run, 20) for run in (lambda: f.sum(), lambda: f.amax(), lambda: x.amax()))
    del x, f
    n = 8192
    a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in "ab")
    matmul = max(2 * n**3 / timed(lambda: a @ b, 20) for _ in range(3))
    return {"copy_bytes_per_second": copy, "read_bytes_per_second": read, "bf16_flops_per_second": matmul}


# Ours.


def environment(cache):
    """For `tile`: where NVRTC lies that PyTorch brought, and a folder for compiled kernels."""
    env = dict(os.environ, TILEWRIGHT_CACHE=cache)
    folders = site.getsitepackages() + [site.getusersitepackages()] + sys.path
    roots = [os.path.join(folder, "nvidia") for folder in folders if folder and os.path.isdir(os.path.join(folder, "nvidia"))]

    def first(name):
        found = [path for root in roots for path in sorted(glob.glob(os.path.join(root, "**", name), recursive=True))]
        return found[0] if found else None

    library, header = first("libnvrtc.so.1[0-9]"), first("cuda_fp16.h")
    if library:
        env.setdefault("TILEWRIGHT_NVRTC", library)
    if header:
        env.setdefault("TILEWRIGHT_CUDA_INCLUDE", os.path.dirname(header))
    return env


def ours(tile, env, row, seconds):
    """The row of `tile bench`, or why there is none."""
    command = [tile, "bench", f"{row.name}/bf16", "--device", "cuda", "--seconds", str(seconds), "--json", "-"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env)
    try:
        # A row whose check does not hold is printed too.
        rows = json.loads(done.stdout)["rows"]
    except (json.JSONDecodeError, KeyError):
        return (done.stderr.strip() or f"exit {done.returncode}")[:2000]
    if len(rows) != 1:
        return f"{len(rows)} rows of this name"
    got = rows[0]
    wanted = {"batch": row.batch, "q_heads": row.q_heads, "kv_heads": row.kv_heads, "q_len": row.q_len,
              "capacity": row.keys, "head_dim": row.dim, "flops": row.flops}
    wrong = {name: (got[name], value) for name, value in wanted.items() if got[name] != value}
    return f"another shape than here, (theirs, ours): {wrong}" if wrong else got


# The table.


def judge(row, result, results):
    """Each bar of a row: (text, reached), where reached is None if something was not measured."""
    out = []
    if isinstance(result["ours"], str):
        return [("not measured", None)] if row.bars else []
    seconds = result["ours"]["seconds"]
    for bar in row.bars:
        if bar.seconds:
            out.append((f"at most {bar.seconds * 1e6:.1f} us", seconds <= bar.seconds))
            continue
        times = {peer: best(result, peer) for peer in bar.peers}
        times.update({f"{who} (quoted)": microseconds / 1e6 for who, microseconds in bar.quoted.items()})
        if bar.row:
            other = results.get(bar.row, {}).get("ours")
            times[bar.row] = other["seconds"] if isinstance(other, dict) else None
        missing = [who for who, time in times.items() if time is None]
        known = {who: time for who, time in times.items() if time is not None}
        if not known:
            out.append((f"{bar.ratio}x: not measured {', '.join(missing)}", None))
            continue
        who = min(known, key=known.get)
        ratio = known[who] / seconds
        note = f", without {', '.join(missing)}" if missing else ""
        reached = ratio >= bar.ratio
        out.append((f"{ratio:.3f}x {who}, required {bar.ratio}x{note}", reached and (None if missing else True)))
    return out


def best(result, peer):
    """The better of a peer's two figures."""
    times = [turn[peer] for turn in result["peers"] if isinstance(turn.get(peer), float)]
    return min(times) if times else None


def rate(row, seconds, bytes_=None):
    if row.short:
        return f"{(bytes_ or row.kv_bytes) / seconds / 1e9:7.0f} GB/s"
    return f"{row.flops / seconds / 1e12:7.1f} TFLOP/s"


def show(row, result, results):
    mine = result["ours"]
    print(row.name, flush=True)
    if isinstance(mine, str):
        print(f"    tile        failed: {mine}")
    else:
        spread = f"[{mine['fastest'] * 1e6:.1f}, {mine['slowest'] * 1e6:.1f}]"
        # Of codes, the bytes that are there; else keys and values alone, as the peers are counted.
        bytes_ = mine["bytes"] if "int" in row.name else None
        print(f"    tile        {mine['seconds'] * 1e6:10.1f} us {spread:22} {rate(row, mine['seconds'], bytes_)}", end="")
        check = mine["check"]
        verdict = "" if check["holds"] else "  WRONG RESULTS"
        print(f"  error {check['error']:.1e} of {check['bound']:.1e}{verdict}")
        schedule = [line for line in mine["explain"].splitlines() if line.startswith("schedule")]
        host = f", host {mine['host_seconds'] * 1e6:.1f} us" if mine["host_seconds"] is not None else ""
        print(f"                {schedule[0] if schedule else ''}; planned in {mine['plan_seconds'] * 1e3:.0f} ms{host}")
    for peer in row.peers:
        turns = [turn[peer] for turn in result["peers"]]
        if all(isinstance(turn, float) for turn in turns):
            both = ", ".join(f"{turn * 1e6:.1f}" for turn in turns)
            note = " (all keys, not causal)" if row.short and row.causal else ""
            print(f"    {peer:10}  {min(turns) * 1e6:10.1f} us {f'[{both}]':22} {rate(row, min(turns))}{note}")
        else:
            print(f"    {peer:10}  none: {[turn for turn in turns if isinstance(turn, str)][0]}")
    for text, reached in judge(row, result, results):
        print(f"    {'reached' if reached else 'unknown' if reached is None else 'MISSED':10}  {text}", flush=True)


def versions():
    import torch

    return {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("filter", nargs="?", default="", help="only rows whose name holds this text")
    parser.add_argument("--tile", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "target", "release", "tile"))
    parser.add_argument("--seconds", type=float, default=0.5, help="of each row of tile")
    parser.add_argument("--json", help="write everything that was measured to this file")
    parser.add_argument("--no-peers", action="store_true", help="time tile alone")
    args = parser.parse_args()
    rows = [row for row in ROWS if args.filter in row.name]
    if not rows:
        sys.exit(f"error: no row holds `{args.filter}`; there are {', '.join(row.name for row in ROWS)}")
    # Rows that others are held against are measured with them.
    needed = {bar.row for row in rows for bar in row.bars if bar.row}
    rows = [row for row in ROWS if row in rows or row.name in needed]
    if args.no_peers:
        rows = [dataclasses.replace(row, peers=()) for row in rows]

    import torch

    torch.set_grad_enabled(False)
    report = {"versions": versions(), "ceilings": ceilings(), "rows": {}}
    print(", ".join(f"{name} {value}" for name, value in report["versions"].items()))
    top = report["ceilings"]
    print(f"copy {top['copy_bytes_per_second'] / 1e9:.0f} GB/s, read {top['read_bytes_per_second'] / 1e9:.0f} GB/s, "
          f"bf16 product {top['bf16_flops_per_second'] / 1e12:.0f} TFLOP/s", flush=True)

    results, missed = report["rows"], []
    with tempfile.TemporaryDirectory() as cache:
        env = environment(cache)
        for row in rows:
            peers = Peers(row)
            before = peers.all()
            torch.cuda.synchronize()
            result = {"ours": ours(args.tile, env, row, args.seconds)}
            result["peers"] = [before, peers.all()]
            results[row.name] = result
            del peers
            torch.cuda.empty_cache()
            show(row, result, results)
            wrong = isinstance(result["ours"], str) or not result["ours"]["check"]["holds"]
            bars = [text for text, reached in judge(row, result, results) if not reached]
            result["missed"] = bars
            missed += [f"{row.name}: {text}" for text in bars] or ([f"{row.name}: no result, or a wrong one"] if wrong else [])

    # With nothing compiled before: the whole first call but for opening the GPU.
    if any(row.name == COMPILE_ROW for row in rows):
        row = next(row for row in rows if row.name == COMPILE_ROW)
        with tempfile.TemporaryDirectory() as cache:
            first = ours(args.tile, environment(cache), row, 0)
            again = ours(args.tile, environment(cache), row, 0)
        if isinstance(first, dict) and isinstance(again, dict):
            report["compile"] = {"first_seconds": first["plan_seconds"], "from_disk_seconds": again["plan_seconds"]}
            print(f"first call of {row.name}: {first['plan_seconds'] * 1e3:.0f} ms, required {COMPILE_SECONDS * 1e3:.0f}; "
                  f"from the disk cache {again['plan_seconds'] * 1e3:.0f} ms")
            if first["plan_seconds"] >= COMPILE_SECONDS:
                missed.append("first call")
    hosts = [r["ours"]["host_seconds"] for r in results.values() if isinstance(r["ours"], dict) and r["ours"]["host_seconds"]]
    if hosts:
        report["relaunch_seconds"] = {"median": statistics.median(hosts), "slowest": max(hosts)}
        print(f"host time of a cached relaunch: median {statistics.median(hosts) * 1e6:.1f} us, slowest {max(hosts) * 1e6:.1f} us, "
              f"required {RELAUNCH_SECONDS * 1e6:.0f} (a decode is two launches)")
        if max(hosts) >= RELAUNCH_SECONDS:
            missed.append("relaunch")
    if args.json:
        with open(args.json, "w") as file:
            json.dump(report, file, indent=1)
    print("all bars reached" if not missed else "not reached:\n" + "\n".join(f"    {line}" for line in missed))


if __name__ == "__main__":
    main()
