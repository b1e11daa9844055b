"""Shared by all tests. Being here, it puts this folder on the import path: `from iree_tools import run`."""
