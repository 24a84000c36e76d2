"""The networks of published systems, each with the function that builds it from a recognised file."""
