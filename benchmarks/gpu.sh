#!/usr/bin/env bash
# All figures that take a GPU, in one command. Without one it says so and has run nothing;
# with `--device cpu` it runs all but what CUDA alone has, in small, to see that it works.
#   PYTHON      the Python to use (default .venv/bin/python)
#   arguments   those of benchmarks/bench_gpu.py; MNIST's archives are found as for a search
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ " $* " != *" --device cpu "* ]] && ! nvidia-smi -L 2>/dev/null | grep -q GPU; then
  echo "no GPU here: nothing was run"
  exit 0
fi
exec "${PYTHON:-.venv/bin/python}" -m benchmarks.bench_gpu "$@"
