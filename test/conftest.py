"""How many cases hypothesis tries: 100, or as a test says; `--hypothesis-profile=nightly` tries ten times as many."""

from hypothesis import settings

settings.register_profile("nightly", max_examples=1000)
