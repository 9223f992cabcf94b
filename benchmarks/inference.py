"""Inference of EfficientNet-B0 and Lite0 on a CPU, against the engines that people would use instead."""

from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from common import Rows, in_turn
from torch import Tensor, nn
from torchvision.models import efficientnet_b0

from plumage.accelerate import kernels
from plumage.accelerate.inference import compile_for_inference
from plumage.accelerate.onnx_graph import INPUT, onnx_model
from plumage.models.efficientnet import EfficientNet
from plumage.models.networks import build_network, configure

CHECKED = 8
"""Photos of a batch that are also computed in float64, which takes seconds."""

NOTE = (
    "Images/s in fp32 at 224 pixels, all in turn in one process, which keeps freed memory. ONNX Runtime with its defaults and OpenVINO (if "
    "installed) run the graph that Plumage makes, on as many threads. Eager is torchvision's network for B0 and Plumage's for Lite0, in "
    "channels_last memory; torch.compile compiles that network for each batch size, with frozen weights. "
    f"The difference is the largest of a probability to that of torch in float64, of the first {CHECKED} photos."
)
BATCHES = {1: 15, 8: 9, 32: 5}
"""Batch sizes, and rounds of each."""
Peer = Callable[[Tensor], object]


def measure(folder: Path, photos: Path | None) -> Rows:
    """One row per network and batch size."""
    kernels.keep_memory()
    rows = []
    for name in ("efficientnet_b0", "efficientnet_lite0"):
        network = fitted(name)
        ours, peers = compile_for_inference(network), peers_of(network)
        for batch_size, rounds in BATCHES.items():
            inputs = torch.randn(batch_size, 3, 224, 224).contiguous(memory_format=torch.channels_last)
            work = {label: (lambda peer=peer: peer(inputs)) for label, peer in {"ours": ours, **peers}.items()}  # noqa: B023
            with torch.inference_mode():
                seconds = in_turn(work, rounds)
                expected = network.double()(inputs[:CHECKED].double()).softmax(1)
                difference = (ours(inputs)[:CHECKED].softmax(1) - expected).abs().max().item()
                network.float()
            best = min(seconds[label] for label in peers)
            rates = {label: batch_size / took for label, took in seconds.items()}
            rows.append(
                {
                    "network": name,
                    "batch": batch_size,
                    **rates,
                    "ratio to the best": best / seconds["ours"],
                    "difference": f"{difference:.0e}",
                }
            )
    return rows


@torch.no_grad()
def fitted(name: str) -> EfficientNet:
    """A random network with statistics of its own maps, so that outputs differ between photos."""
    torch.manual_seed(0)
    network = build_network(configure(name), 1000).train()
    assert isinstance(network, EfficientNet)
    for _ in range(3):
        network(torch.randn(16, 3, 224, 224))
    return network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def peers_of(network: EfficientNet) -> dict[str, Peer]:
    """What people would use instead, by name and version; what is not installed is left out, with a line."""
    tensors = {name: value.numpy() for name, value in network.state_dict().items()}
    model, threads = onnx_model(network.config, tensors), torch.get_num_threads()
    eager: nn.Module = network
    label = "torch"
    if network.config.name == "efficientnet_b0":
        eager, label = efficientnet_b0().eval().to(memory_format=torch.channels_last), "torchvision"  # type: ignore[call-overload]
    compiled = torch.compile(eager, dynamic=False, options={"freezing": True})
    peers: dict[str, Peer] = {"ONNX Runtime": onnx_runtime(model, threads), "eager": eager, "torch.compile": compiled}
    print(f"{network.config.name}: eager is {label} {version(label)}, ONNX Runtime is {version('onnxruntime')}")
    if find_spec("openvino"):
        peers[f"OpenVINO {version('openvino')}"] = open_vino(model, threads)
    else:
        print("OpenVINO is not installed and left out (pip install openvino)")
    return peers


def onnx_runtime(model: bytes, threads: int) -> Peer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda photos: session.run(["logits"], {INPUT: photos.contiguous().numpy()})


def open_vino(model: bytes, threads: int) -> Peer:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.compile_model(openvino.Core().read_model(model), "CPU", settings).create_infer_request()
    return lambda photos: request.infer({INPUT: photos.contiguous().numpy()})
