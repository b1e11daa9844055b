"""What is measured of a model on text before it is compiled: outlier thresholds, energies, and what each site costs."""
