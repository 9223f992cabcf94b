"""Inference of EfficientNet-B0, ours and torchvision's, eager and compiled with CUDA graphs."""

from collections.abc import Callable
from functools import partial

import torch
from tables import Rows
from torch import nn

from on_gpu.common import Run, Work, answer, averaged, be_free, in_turn, on_gpu, peer, random_photos, warmed_up
from plumage.accelerate.graphs import Graphed
from plumage.accelerate.inference import _folded_forward, compile_for_inference
from plumage.models import create_model

BATCHES = (1, 32, 256)
COMPILED = "torchvision fp16, compiled, with CUDA graphs"
NOTE = "EfficientNet-B0 at 224 pixels, channels_last, photos already on the GPU. Ours is not compiled. Memory is the peak of a pass."


def measure(run: Run) -> list[Rows]:
    torch.manual_seed(0)
    ours, half = on_gpu(create_model("efficientnet_b0", 1000)).eval(), half_network()
    compiled = run.compiling[COMPILED].compiled() if COMPILED in run.compiling else None
    rows: Rows = []
    for batch in BATCHES:
        photos = random_photos(batch)
        forwards: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
            "torchvision fp16": lambda x: half(x.half()),
            "ours bf16": compile_for_inference(ours, "bf16"),
            "ours fp16": Graphed(_folded_forward(ours, torch.float16, False)),
            "ours fp32": compile_for_inference(ours, "fp32"),
        }
        with torch.inference_mode():
            be_free(batch)
            passes = {name: partial(forward, photos) for name, forward in forwards.items()}
            memory = {name: warmed_up(partial(passes.__getitem__, name))[1]["memory"] for name in passes}
            work: dict[str, Work] = {name: partial(averaged, do) for name, do in passes.items()}
            if compiled:
                memory[COMPILED], work[COMPILED] = compiled[str(batch)], run.compiling[COMPILED].work(batch)
            seconds = in_turn(work, 0.3)
        rows += [
            {"batch": batch, "network": name, "images/s": round(batch / seconds[name]), "memory, GB": memory[name]}
            for name in work
        ]
    return [rows]


def compile_and_answer() -> None:
    """Compile passes of each batch size with torch.compile, then answer requests to time them."""
    be_free(max(BATCHES))
    forward = torch.compile(half_network(), dynamic=False, mode="reduce-overhead")
    with torch.inference_mode():
        works = {batch: partial(_compiled_pass, forward, random_photos(batch).half()) for batch in BATCHES}
        memory = {str(batch): warmed_up(partial(works.__getitem__, batch))[1]["memory"] for batch in reversed(BATCHES)}
        answer(dict(works), **memory)


def _compiled_pass(forward: Callable[[torch.Tensor], object], photos: torch.Tensor) -> None:
    torch.compiler.cudagraph_mark_step_begin()
    forward(photos)


def half_network() -> nn.Module:
    return on_gpu(peer("torchvision").half()).eval()
