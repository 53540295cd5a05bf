"""What the benchmark of the collector is made of: servers to compare, a load, and who used how much CPU."""
