"""The collector of analytics-sdk: HTTP in, Postgres out. Importing this package runs no code."""
