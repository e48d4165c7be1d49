"""Runs one peer of `tile bench`, which starts `python protocol.py NAME` once for each case.

A peer is a file NAME.py beside this one with a function `prepare(case)`, which gives a `Peer`: its version, its threads and its
ways, callables that compute the case once. It raises `Cannot` with a reason where it has none. Any program that speaks the same
lines can be a peer as well: an executable NAME here, or NAME/target/release/NAME.

    tile: {"batch": 1, "q_heads": 32, "kv_heads": 8, "q_len": 1, "kv_len": 4096, "head_dim": 128, "value_dim": 128,
           "dtype": "bf16", "kv_dtype": "bf16", "mask": "none", "format": "dense", "threads": 2, ...}          one line
    peer: ready {"version": "...", "threads": 2, "tried": {"WAY": seconds, ...}, "errors": {"WAY": error, ...}}
                                                                                                        or: cannot REASON
    tile: round 0.2
    peer: {"WAY": [seconds, seconds, ...], ...}
    ...                                                                                     until its input ends

`mask` is none, causal (the last query is at the last key), additive (a float [q_len, kv_len] of the case's type that blocks
nothing), or the text of features that no peer knows. `tried` has every way that worked, `errors` the largest error of each as a
multiple of the bound that `tile` holds itself to. Of the ways inside the bound, and of those outside, the ones that came within
1.5 times of the fastest are measured in every round; `tile` counts the best one inside, and names one outside that is faster.

Every way's result is held against attention in f64 on some rows: one that is wrong altogether is refused.
"""

import dataclasses
import importlib.util
import json
import math
import os
import sys
import time
import typing

KEPT = 1.5
FEW = 64
"""Up to so many queries, reading the keys takes most of the time: repeated ones are not tried, folded heads are."""
SLOW = 1.0
"""Seconds. A way that takes longer gains nothing from a run that is not counted."""


class Cannot(Exception):
    """The peer cannot compute this case; the text says why."""


@dataclasses.dataclass
class Peer:
    version: str
    threads: typing.Optional[int]
    """What it says that it uses, or None where it does not say."""
    ways: dict
    """Callables by name, without arguments; each result can be made an array [batch, q_heads, q_len, value_dim] by `array`."""
    array: typing.Callable
    inputs: tuple
    """The numbers of q, k, v as they were rounded, and of the mask or None, as f32 arrays of numpy."""
    inexact: tuple = ()
    """Ways that attend all keys where the case is causal: less to do for the peer, so they may stand for it."""


def inputs(case, seed=0):
    """q, k, v as f32 arrays [batch, heads, length, dim], and the added mask [q_len, kv_len] or None."""
    import numpy

    random = numpy.random.default_rng(seed)
    normal = lambda *shape: random.standard_normal(shape, dtype=numpy.float32)
    q = normal(case["batch"], case["q_heads"], case["q_len"], case["head_dim"])
    k = normal(case["batch"], case["kv_heads"], case["kv_len"], case["head_dim"])
    v = normal(case["batch"], case["kv_heads"], case["kv_len"], case["value_dim"])
    added = normal(case["q_len"], case["kv_len"]) if case["mask"] == "additive" else None
    return q, k, v, added


def causal_mask(case):
    """0 and -inf, [q_len, kv_len]: the last query is at the last key."""
    import numpy

    q_len, kv_len = case["q_len"], case["kv_len"]
    seen = numpy.tri(q_len, kv_len, kv_len - q_len, dtype=bool)
    return numpy.where(seen, numpy.float32(0), numpy.float32(-numpy.inf))


def group(case):
    return case["q_heads"] // case["kv_heads"]


def needs(case, dtypes=("f32", "f16", "bf16"), masks=("none", "causal", "additive")):
    """Refuses what no peer here has."""
    if case["format"] != "dense":
        raise Cannot(f"no cache of format {case['format']}")
    if case["dtype"] not in dtypes or case["kv_dtype"] != case["dtype"]:
        raise Cannot(f"no attention in {case['dtype']} over {case['kv_dtype']}")
    if case["mask"] not in masks:
        raise Cannot(f"no attention with {case['mask']}")


def sampled(count, most):
    """So many places of an axis, or all of them: the first, the last, and some between."""
    most = min(most, count)
    return sorted({at * (count - 1) // max(most - 1, 1) for at in range(most)})


ROWS = 64
HEADS = 8


def judged(case, peer, name, result):
    """What is wrong with a way's result on some rows, or None; and its largest error there, as a multiple of the bound."""
    import numpy

    got = peer.array(result)
    wanted_shape = (case["batch"], case["q_heads"], case["q_len"], case["value_dim"])
    if got.shape != wanted_shape:
        return f"shape {list(got.shape)} and not {list(wanted_shape)}", math.inf
    q, k, v, added = peer.inputs
    mask = added
    if case["mask"] == "causal" and name not in peer.inexact:
        mask = causal_mask(case)
    # By how much attention in this type may be off, of the largest number of a row, before it is something else.
    allowed = {"f32": 1e-3, "f16": 2e-2, "bf16": 1e-1}[case["dtype"]]
    found, scale = [], 1 / math.sqrt(case["head_dim"])
    for head in sampled(case["q_heads"], HEADS):
        keys, values = (x[0, head // group(case)] for x in (k, v))
        keys64, values64 = keys.astype(numpy.float64), values.astype(numpy.float64)
        for row in sampled(case["q_len"], ROWS):
            query = q[0, head, row]
            seen = slice(None) if mask is None else mask[row] > -numpy.inf
            add = 0 if mask is None else mask[row][seen]
            scores = keys64[seen] @ query.astype(numpy.float64) * scale + add
            weights = numpy.exp(scores - scores.max())
            wanted = weights @ values64[seen] / weights.sum()
            error = numpy.abs(got[0, head, row] - wanted)
            if not error.max() <= allowed * numpy.abs(wanted).max():  # NaN is wrong
                off = 100 * error.max() / numpy.abs(wanted).max()
                return f"wrong by {off:.2g} % in row {row} of head {head}", math.inf
            plain = (keys[seen] @ query) * numpy.float32(scale) + numpy.float32(add)
            book = numpy.abs(textbook(case["dtype"], plain, values[seen]) - wanted).max()
            largest = scale * (numpy.abs(keys64[seen]) @ numpy.abs(query.astype(numpy.float64))).max()
            found.append((error, wanted, book, largest, numpy.abs(values64[seen]).max()))
    # As `reference::Bound` says, over these rows.
    book, largest, value = (max(row[part] for row in found) for part in (2, 3, 4))
    f32 = 2e-6 * value * max(1, largest / 16)
    unit, least = {"f32": (0, 0), "f16": (2.0**-11, 2.0**-25), "bf16": (2.0**-8, 2.0**-134)}[case["dtype"]]
    book = 0 if case["dtype"] == "f32" else book
    bound = lambda wanted: numpy.maximum(2 * book, f32 + numpy.maximum(numpy.abs(wanted) * unit, least))
    return None, max(float((error / bound(wanted)).max()) for error, wanted, *_ in found)


def textbook(dtype, scores, values):
    """Scores and softmax in f32, weights rounded to the type, their products summed in f32, the result rounded."""
    import numpy

    weights = numpy.exp(scores - scores.max())
    return rounded(rounded(weights / weights.sum(), dtype) @ values, dtype)


def rounded(x, dtype):
    """f32 numbers to the nearest ones of a type."""
    import numpy

    if dtype == "f16":
        return x.astype(numpy.float16).astype(numpy.float32)
    if dtype == "bf16":
        bits = x.astype(numpy.float32).view(numpy.uint32)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & numpy.uint32(0xFFFF0000)
        return bits.view(numpy.float32)
    return x


def run(way, seconds, least=1, warm=True):
    """Seconds of each call, repeated for about so long, after one that is not counted where `warm`."""
    if warm:
        way()
    times, end = [], time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        started = time.perf_counter()
        way()
        times.append(time.perf_counter() - started)
    return times


def try_ways(case, peer):
    """Seconds of each way that works and its error, and what is wrong with the others."""
    tried, errors, refused = {}, {}, []
    for name, way in peer.ways.items():
        try:
            fault, error = judged(case, peer, name, way())
            if fault is None:
                errors[name] = error
                first = run(way, 0, 1, warm=False)  # it ran before
                tried[name] = first[0] if first[0] > SLOW else min(first + run(way, 0.3, 3, warm=False))
        except Exception as failure:  # whatever a library raises, the way does not work
            fault = one_line(failure)
        if fault is not None:
            refused.append(f"{name}: {fault}")
    return tried, errors, refused


def one_line(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def load(name):
    here = os.path.dirname(os.path.abspath(__file__))
    # The peers are named like the packages that they import.
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != here]
    sys.modules["protocol"] = sys.modules["__main__"]
    spec = importlib.util.spec_from_file_location(f"peer_{name}", os.path.join(here, f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    # What libraries print must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(line):
        print(line, file=answers, flush=True)

    case = json.loads(sys.stdin.readline())
    try:
        peer = load(sys.argv[1]).prepare(case)
        tried, errors, refused = try_ways(case, peer)
        if not tried:
            raise Cannot("; ".join(refused))
    except Cannot as error:
        return answer(f"cannot {error}")
    except ImportError as error:
        return answer(f"cannot import {one_line(error)}")
    for line in refused:
        print(line, file=sys.stderr)
    said = {"version": peer.version, "threads": peer.threads, "tried": tried, "errors": errors}
    answer("ready " + json.dumps(said))
    kept = []
    for inside in (True, False):
        ways = {name: seconds for name, seconds in tried.items() if (errors[name] <= 1) == inside}
        kept += [name for name, seconds in ways.items() if seconds <= KEPT * min(ways.values())]
    for line in sys.stdin:
        seconds = float(line.split()[1]) / len(kept)
        answer(json.dumps({name: run(peer.ways[name], seconds, warm=tried[name] <= SLOW) for name in kept}))


if __name__ == "__main__":
    main()
