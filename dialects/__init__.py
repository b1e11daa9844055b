"""The dialects of dcomc: tensors and factors, mapped vector kernels, instructions."""
