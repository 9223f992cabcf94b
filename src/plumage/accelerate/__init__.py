"""What makes a plain model fast on this machine, applied from outside; native code."""
