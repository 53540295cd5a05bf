"""How benchmarks tell what they found: tables, and the page of the documentation that they write them into."""
