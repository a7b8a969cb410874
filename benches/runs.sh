#!/usr/bin/env bash
# Load, prompt, decode and training speed of loam-tiny in every format, then the peak memory of a real training run.
#
#     benches/runs.sh [DEVICE]        DEVICE as `loam devices` names it; cpu by default
set -euo pipefail
cd "$(dirname "$0")/.."

device=${1:-cpu}
cargo build --release --quiet -p loam-cli
loam=target/release/loam
assets=targets/cli/assets
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for format in f32 f16 bf16 q8_0 q4_0 q4_k; do
    printf '== %s\n' "$format"
    "$loam" convert "$assets/loam-tiny" -o "$work/$format.gguf" --format "$format" --pure | grep size
    "$loam" bench "$work/$format.gguf" --device "$device"
done

printf '== train q4_0, 20 steps of 4 x 256 tokens, rank 8 on all linear layers\n'
"$loam" train "$work/q4_0.gguf" --data "$assets/demo/train.jsonl" --eval-data "$assets/demo/heldout.jsonl" \
    -o "$work/adapter.gguf" --steps 20 --context 256 --pack --batch 4 --rank 8 --lr 2e-3 --device "$device" 2> "$work/log" ||
    { cat "$work/log" >&2; exit 1; }
