#!/usr/bin/env bash
# Measures the engines on one GPU, without network. See usage below and docs/benchmarks.md.
set -euo pipefail

usage() {
  cat <<'EOF'
bench/gpu.sh [--wheels DIR] [--models DIR] [--data DIR] [--device cuda|cpu] [--seconds N] [--out FILE]

Measures seconds for an hour of audio, GPU memory, and equality with the CPU. It needs no network and leaves nothing installed.

  --wheels DIR    wheels of packages that this Python lacks (bench/gpu/wheels.txt); they are unpacked into a temporary
                  folder
  --models DIR    folder of the models (CARECA_MODELS_DIR, or ~/.cache/careca/models)
  --data DIR      folder of WAV files, 16 kHz mono of 16 bits, from `python -m bench.gpu prepare --out DIR/speech.wav`;
                  without it, recordings are decoded (CARECA_DATA), which needs PyAV
  --device cpu    tries the program without a GPU; memory is then a dash
  --seconds N     length of the long recording: 3600 on cuda, 120 on cpu
  --out FILE      document to update between its markers gpu:begin and gpu:end

PYTHON names the interpreter: python3 by default. A task whose packages or models are missing is left out, and a line
says why.
EOF
}

wheels=
arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h)
      usage
      exit
      ;;
    --wheels)
      wheels=${2:?--wheels needs a folder}
      shift 2
      ;;
    *)
      arguments+=("$1")
      shift
      ;;
  esac
done

python=${PYTHON:-python3}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -n "$wheels" ]; then
  "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --target "$work/packages" "$wheels"/*.whl
fi
services=$root/services
export PYTHONPATH=$work/packages:$root:$services/common/src:$services/transcriber/src:$services/diarizer/src${PYTHONPATH:+:$PYTHONPATH}

# CTranslate2 opens libcublas.so.12 by its name. Where only that of CUDA 13 is there, a link gives it this name.
cublas=$("$python" - <<'EOF'
from importlib.util import find_spec
from pathlib import Path

specs = [spec for name in ("nvidia", "torch") if (spec := find_spec(name))]
folders = [Path(folder) for spec in specs for folder in spec.submodule_search_locations or ()]
found = [file for folder in (*folders, *Path("/usr/local").glob("cuda*")) for file in folder.rglob("libcublas.so.1[23]")]
print(min(found, key=lambda file: file.name, default=""))
EOF
)
if [ -n "$cublas" ]; then
  mkdir "$work/cuda"
  for library in libcublas libcublasLt; do
    ln -s "$(dirname "$cublas")/$library.so.${cublas##*.}" "$work/cuda/$library.so.12"
  done
  LD_LIBRARY_PATH=$work/cuda:$(dirname "$cublas")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  export LD_LIBRARY_PATH
fi

"$python" -m bench.gpu measure ${arguments[@]+"${arguments[@]}"}
