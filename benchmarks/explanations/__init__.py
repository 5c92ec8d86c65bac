"""Parts of the benchmark eac: estimators, forwards, pictures, and what times and plots them."""
