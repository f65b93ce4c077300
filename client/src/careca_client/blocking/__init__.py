"""The blocking client, on grpc's blocking stubs. The twin of each module is in ``careca_client.aio``."""
