"""The client for asyncio, on grpc.aio. The twin of each module is in ``careca_client.blocking``."""
