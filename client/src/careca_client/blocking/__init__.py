"""The blocking client. All modules but ``concurrency`` are generated from ``careca_client.aio``: run `make client`."""
