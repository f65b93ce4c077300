"""The stages of one request and the values between them, to the result. No gRPC, Redis or protobuf here."""
