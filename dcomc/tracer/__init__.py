"""Package of dcomc."""
