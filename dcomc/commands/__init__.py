"""The subcommands of `dcomc`, one module each."""
