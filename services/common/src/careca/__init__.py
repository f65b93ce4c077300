"""What Careca's services and client share: values, errors, codec, cache, memory, models and the gRPC runtime."""

import os

# gRPC's core writes to stderr directly, between the lines of the log. At its default level this includes unescaped text
# from callers. gRPC reads the variable at its import, which happens later. An existing value is kept.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
