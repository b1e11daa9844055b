"""The machine: instruction table, engines, timing; and the host executor."""
