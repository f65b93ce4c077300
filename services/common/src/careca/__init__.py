"""What Careca's services and client share: values, errors, codec, cache, memory, models and the gRPC runtime."""
