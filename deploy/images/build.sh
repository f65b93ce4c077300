#!/bin/sh
# The steps of the services' Dockerfiles, as a script so that they can be run and tested without Docker.
#
#   build.sh dependencies SERVICE VARIANT    others' packages into $PREFIX/venv, which also looks into $PREFIX/careca
#   build.sh own PACKAGE...                  Careca's own, stubs and licence included, into $PREFIX/careca. A package is a
#                                            folder: services/gateway, client
#
# Run in the repository's root. PREFIX is /opt by default. TORCH_CPU_INDEX is where builds of torch without CUDA are, for
# all variants except cuda; where it is empty, torch comes from where everything else does.
set -eu

step=$1
shift
prefix=${PREFIX:-/opt}
here=$(dirname "$0")
# Compiled files then have a hash of their source instead of its time: the same packages give the same image.
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-315532800}"

install() {
  "$prefix/venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "$@"
}

dependencies() {
  service=$1
  variant=$2
  python -m venv "$prefix/venv"
  # Not by PYTHONPATH: the process that decodes recordings is isolated from its environment.
  echo "$prefix/careca" > "$("$prefix/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/careca.pth"
  python "$here/requirements.py" "$service" "$variant" > "$prefix/requirements.txt"
  # Alone, and only torch: a second index beside the first could otherwise give any package.
  if [ "$variant" != cuda ] && [ -n "${TORCH_CPU_INDEX:-}" ] && grep -qx torch "$prefix/requirements.txt"; then
    install --no-deps --index-url "$TORCH_CPU_INDEX" torch
  fi
  install --requirement "$prefix/requirements.txt"
  "$prefix/venv/bin/python" -m pip check
}

own() {
  for folder in "$@"; do
    shift
    set -- "$@" "./$folder"  # pip would take "client" for the name of a package
  done
  python -m venv "$prefix/tools"
  "$prefix/tools/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
    grpcio-tools setuptools
  stubs=services/common/src/careca/v1
  mkdir -p "$stubs"
  "$prefix/tools/bin/python" -m grpc_tools.protoc -I protos --python_out=services/common/src \
    --grpc_python_out=services/common/src protos/careca/v1/*.proto
  touch "$stubs/__init__.py"
  # pip would compile them in a temporary folder, whose name is in the compiled files.
  "$prefix/tools/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
    --no-compile --target "$prefix/careca" ./services/common "$@"
  "$prefix/tools/bin/python" -m compileall -q "$prefix/careca"
  cp LICENSE NOTICE "$prefix/careca/"
}

case $step in
  dependencies) dependencies "$@" ;;
  own) own "$@" ;;
  *) echo "There is no step $step." >&2; exit 2 ;;
esac
