"""Makes the installed package `levada` wrong on purpose, in the one way that LEVADA_DEFECT names, by patching its public layer.

Python loads this by itself before the adapter, from PYTHONPATH. `conformance/selftest/defects.yaml` names the cases that must notice.
"""

import dataclasses
import functools
import itertools
import os

import levada
import levada.aio

received = itertools.count(1)


def is_seventh(_):
    return next(received) % 7 == 0


def patch(classes, name, change, changed_async=None):
    """Puts `change` around a method: what it gets is the original, and is called with its arguments."""
    for type, wrap in zip(classes, (change, changed_async or change)):
        original = getattr(type, name)
        setattr(type, name, functools.partialmethod(wrap, original))


def drop_seventh():
    """Leaves out every seventh message received."""

    def receive(self, original, *args, **options):
        message = original(self, *args, **options)
        return original(self, *args, **options) if message is not None and is_seventh(message) else message

    async def receive_async(self, original, *args, **options):
        message = await original(self, *args, **options)
        return await original(self, *args, **options) if message is not None and is_seventh(message) else message

    def receive_batch(self, original, *args, **options):
        return list(itertools.filterfalse(is_seventh, original(self, *args, **options)))

    async def receive_batch_async(self, original, *args, **options):
        return list(itertools.filterfalse(is_seventh, await original(self, *args, **options)))

    consumers = (levada.Consumer, levada.aio.Consumer)
    patch(consumers, "receive", receive, receive_async)
    patch(consumers, "receive_batch", receive_batch, receive_batch_async)


def wrong_code():
    """Tells TOPIC_NOT_FOUND as STREAM_NOT_FOUND."""
    told = {"code": int(levada.ErrorCode.STREAM_NOT_FOUND), "name": "STREAM_NOT_FOUND"}
    for attribute, wrong in told.items():
        original = getattr(levada.LevadaError, attribute)

        def tell(self, original=original, wrong=wrong):
            return wrong if self.args[1] == "TOPIC_NOT_FOUND" else original.fget(self)

        setattr(levada.LevadaError, attribute, property(tell))


def offset_plus_one():
    """Tells the offset of the next message in receipts."""

    def moved(receipt):
        return dataclasses.replace(receipt, offset=receipt.offset + 1)

    def call(self, original, *args, **options):
        return moved(original(self, *args, **options))

    async def call_async(self, original, *args, **options):
        return moved(await original(self, *args, **options))

    patch((levada.Producer, levada.aio.Producer), "send", call, call_async)
    patch((levada.Delivery, levada.aio.Delivery), "wait", call, call_async)


DEFECTS = {"none": lambda: None, "drop-seventh": drop_seventh, "wrong-code": wrong_code, "offset-plus-one": offset_plus_one}
DEFECTS[os.environ["LEVADA_DEFECT"]]()
