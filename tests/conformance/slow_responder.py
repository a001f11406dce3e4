"""A responder that takes its time, for tests that interrupt it."""

import time

from overnight.simulator import ModelReply, ModelRequest


class Slow:
    def __call__(self, request: ModelRequest, /) -> ModelReply:
        time.sleep(0.5)
        return ModelReply(text="At last.")
