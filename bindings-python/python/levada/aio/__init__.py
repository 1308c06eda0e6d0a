"""The asyncio client: the same as `levada`, awaited.

    import asyncio, levada.aio

    async def main():
        async with await levada.aio.connect() as client:
            async with client.producer("shop/orders") as producer:
                await producer.send("a pound of apples")

    asyncio.run(main())

Cancelling a task cancels the call it waits for and nothing else: the client stays usable and no message is lost.
"""

from levada.aio._client import Admin, Client, Consumer, Delivery, Producer, connect

__all__ = ["Admin", "Client", "Consumer", "Delivery", "Producer", "connect"]
