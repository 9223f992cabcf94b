"""ONNX Runtime computes an EfficientNet on a CPU, in float32.

Of the engines in benchmarks/inference.py it needed the least time per core. It computes one photo at a time per thread, so that a photo's
bytes depend neither on the others, nor on the number of threads.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from plumage.accelerate.onnx_graph import FEATURES, INPUT, LOGITS, Tensors, onnx_model
from plumage.architectures import EfficientNetConfig

# Official builds report their use to Microsoft, under an identifier in the home folder, unless this is set before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

SPIN_MICROSECONDS = 1000
"""How long threads that share a photo wait for its next layer before they sleep. (The default leaves them busy for seconds.)"""
ERROR = 3
"""ONNX Runtime's log level: its warnings are about this machine's devices, of which only the CPU is used."""


class Engine:
    """A network with the weights `tensors`, Plumage's state dict, as they are now; on `threads` threads."""

    def __init__(self, config: EfficientNetConfig, tensors: Tensors, threads: int) -> None:
        self._model, self._threads = onnx_model(config, tensors), threads
        self._last = LOGITS if "classifier.weight" in tensors else FEATURES
        self._pool = ThreadPoolExecutor(threads)  # starts its threads when they are needed

    def logits(self, photos: NDArray[np.float32]) -> NDArray[np.float32]:
        """N x classes logits of N x C x H x W photos, N at least 1; without a classifier, their features."""
        return self._run(photos, self._last)

    def features(self, photos: NDArray[np.float32]) -> NDArray[np.float32]:
        """N x F pooled features, the classifier's inputs, of N x C x H x W photos, N at least 1."""
        return self._run(photos, FEATURES)

    def _run(self, photos: NDArray[np.float32], output: str) -> NDArray[np.float32]:
        session = self._for_one if len(photos) == 1 and self._threads > 1 else self._for_many

        def run(photo: NDArray[np.float32]) -> NDArray[np.float32]:
            [found] = session.run([output], {INPUT: np.ascontiguousarray(photo[None])})
            return np.asarray(found)

        rows = map(run, photos) if len(photos) == 1 or self._threads == 1 else self._pool.map(run, photos)
        return np.concatenate(list(rows))

    @cached_property
    def _for_one(self) -> onnxruntime.InferenceSession:
        """All threads share the work of each layer."""
        return _session(self._model, self._threads)

    @cached_property
    def _for_many(self) -> onnxruntime.InferenceSession:
        """Each thread has its own photo: none waits for another, so that a busy machine slows it down the least."""
        return _session(self._model, 1)


def _session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    onnxruntime.set_default_logger_severity(ERROR)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERROR
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_MICROSECONDS))
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
