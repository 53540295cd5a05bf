"""What all benchmarks share: cores that stay awake, tables, and the page of the documentation they are written into."""
