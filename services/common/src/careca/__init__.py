"""What Careca's services and client share: values, errors, codec, cache, memory, models and the gRPC runtime."""

import os

# gRPC's core writes to stderr by itself, among the lines of the log, and at the level of information word for word what
# strangers send: line breaks and all. It looks at this when it is imported, which comes after; what is set stays.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
