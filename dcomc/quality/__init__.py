"""What decompositions cost in quality: the paper's grid on a small model, and what does better, in docs/quality.md."""
