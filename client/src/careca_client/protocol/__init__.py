"""The rules of the client's calls. No I/O: the asyncio and the blocking client share these modules."""
