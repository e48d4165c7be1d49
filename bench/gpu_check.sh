#!/usr/bin/env bash
# For a machine with an NVIDIA GPU: every case of the library on it, then some of them under compute-sanitizer, which finds
# accesses outside of memory and accesses of two threads that no barrier orders. Exit 1 on any finding, 2 where a tool is
# missing.
#
#     bench/gpu_check.sh                                 # builds tile in release
#     TILE=path/to/tile bench/gpu_check.sh               # takes one that was built elsewhere
#
# DEVICE (cuda), FILTER (none), CASES (60, under compute-sanitizer) and LOGS (a new folder) can be set. NVRTC is looked for
# where `tile` looks (README.md, NVIDIA GPUs), after the Python package nvidia-cuda-nvrtc.
set -uo pipefail
cd "$(dirname "$0")/.."

device=${DEVICE:-cuda}
cases=${CASES:-60}
filter=(${FILTER:+"$FILTER"})
logs=${LOGS:-$(mktemp -d)}
mkdir -p "$logs"
missing() { printf 'gpu_check: %s\n' "$*" >&2; exit 2; }

# Prints the path of libnvrtc in a package of Python, where there is one.
nvrtc_of_python() {
    python3 - <<'PYTHON' 2>/dev/null
import glob, importlib.util
folders = importlib.util.find_spec("nvidia").submodule_search_locations
found = [lib for folder in folders for lib in sorted(glob.glob(folder + "/**/libnvrtc.so.1?", recursive=True))]
print(found[-1]) if found else exit(1)
PYTHON
}
if [ -z "${TILEWRIGHT_NVRTC:-}" ] && found=$(nvrtc_of_python); then
    export TILEWRIGHT_NVRTC=$found
fi

tile=${TILE:-}
if [ -z "$tile" ]; then
    cargo build --release --locked -p tilewright-cli || missing "tile does not build"
    tile=${CARGO_TARGET_DIR:-target}/release/tile
fi
[ -x "$tile" ] || missing "$tile is no program"
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null) ||
    missing "compute-sanitizer of the CUDA toolkit is neither on the PATH nor in /usr/local/cuda/bin"
"$tile" devices || missing "tile does not run"

summary=()
findings=0
# Runs a command under a name; its whole output goes to a log, and its end to the terminal.
step() {
    local name=$1 status
    shift
    printf '\n== %s\n' "$name"
    SECONDS=0
    "$@" >"$logs/$name.log" 2>&1
    status=$?
    tail -n 25 "$logs/$name.log"
    if [ "$status" = 0 ]; then
        summary+=("$name: ok, $SECONDS s")
    else
        summary+=("$name: FAILED with $status after $SECONDS s, see $logs/$name.log")
        findings=$((findings + 1))
    fi
}
# A log in which the tool does not say that it looked and found nothing is a finding too.
watched() {
    local tool=$1 log
    log=$("$sanitizer" --tool "$tool" --error-exitcode 9 "$tile" test "${filter[@]}" --limit "$cases" --device "$device" 2>&1)
    local status=$?
    printf '%s\n' "$log"
    [ "$status" = 0 ] && printf '%s\n' "$log" | grep -Eq '(ERROR SUMMARY: 0 errors|RACECHECK SUMMARY: 0 hazards)'
}

step cases "$tile" test "${filter[@]}" --device "$device"
step memcheck watched memcheck
step racecheck watched racecheck

printf '\n== summary\n'
printf '%s\n' "${summary[@]}"
[ "$findings" = 0 ]
