"""Levada: produce and consume durable message streams.

    import levada

    with levada.connect() as client:
        client.admin.create_topic("shop/orders", partition_count=4)
        with client.producer("shop/orders") as producer:
            producer.send("a pound of apples", key="alice")
        with client.consumer("shop/orders", from_="earliest") as consumer:
            print(consumer.receive().payload)

`levada.aio` is the same for asyncio; `levada.testing` starts servers for tests.
"""

from levada import _generated, _native
from levada._client import Admin, Client, Consumer, Delivery, Producer, connect
from levada._generated import *
from levada._message import Data, Headers, HeaderValue, OutgoingMessage
from levada._native import Message
from levada._values import U64, Position

__version__ = _native.version()

__all__ = [
    "U64",
    "Admin",
    "Client",
    "Consumer",
    "Data",
    "Delivery",
    "HeaderValue",
    "Headers",
    "Message",
    "OutgoingMessage",
    "Position",
    "Producer",
    "connect",
]
__all__ += _generated.__all__
