"""What to decompose within a budget: candidates from calibrations, confirmed by running them."""
