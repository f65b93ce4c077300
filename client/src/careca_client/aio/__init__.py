"""The client for asyncio, on grpc.aio. The package ``careca_client.blocking`` is generated from it by `make client`.

Only ``concurrency`` is written twice, by hand: it holds what differs between asyncio and threads.
"""
