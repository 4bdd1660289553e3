#!/bin/sh
# Runs every fuzz target for some minutes: fuzz/run.sh [minutes, 5 by default]
# Needs `cargo install cargo-fuzz`; the sanitizers are unstable flags, hence RUSTC_BOOTSTRAP on a stable compiler.
set -eu
cd "$(dirname "$0")/.."
seconds=$((${1:-5} * 60))
for target in expression idx safetensors run_folder tables programs; do
    RUSTC_BOOTSTRAP=1 cargo fuzz run "$target" -- -max_total_time="$seconds" -max_len=1000
done
