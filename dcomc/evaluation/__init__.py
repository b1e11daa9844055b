"""What a compiled model is worth on texts and questions, beside the dense model on the same tokens."""
