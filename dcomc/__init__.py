"""dcomc: compile a Llama onto low-rank factors of its activations, and simulate the accelerator that finds them."""

__version__ = "0.1.0"
