"""What makes a plain model fast on this machine, applied from outside; native code."""

from plumage.accelerate.layers import accelerate, unaccelerate

__all__ = ["accelerate", "unaccelerate"]
