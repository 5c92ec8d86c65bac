"""What a grid reads from outside: data sets, weights, published numbers."""
