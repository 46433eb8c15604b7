#!/usr/bin/env bash
# tests/gpu/nvlink.sh PHX: two processes with a GPU each, healthy, killed, hung and paused: what
# they give is the reference's, bit for bit, given the masks, and (recorded) the simulator's. 77: no
# two GPUs here. Sanitized: PHX_GPU_RUNNER="compute-sanitizer --target-processes all".

phx=$1
dir=$(cd "$(dirname "$0")" && pwd)/scenarios
work=$(mktemp -d) || exit 3
trap 'rm -rf "$work"' EXIT
status=0

out=$($phx run "$dir/both-go-on.yaml" --transport cuda 2>&1)
if grep -qE 'looking for GPUs|has no CUDA|ranks: there are [01] GPUs|shows no GPU' <<<"$out"; then
    echo "skipped: $out"
    exit 77
fi
for file in "$dir"/*.yaml; do
    name=$(basename "$file" .yaml)
    if ! $PHX_GPU_RUNNER $phx run "$file" --transport cuda --record "$work/$name" \
        >"$work/out" 2>&1; then
        echo "$name: over cuda:"; cat "$work/out"; status=1
        continue
    fi
    if ! $phx replay "$work/$name" >"$work/out" 2>&1; then
        echo "$name: in the simulator:"; cat "$work/out"; status=1
    fi
done
$phx run "$dir/killed-at-a-put.yaml" --transport cuda --own-gpu-only >"$work/out" 2>&1 ||
    { echo 'each process with its own GPU alone:'; cat "$work/out"; status=1; }
exit $status
