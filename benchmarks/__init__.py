"""What is timed, against what. Prints ratios; nothing is asserted. Results are kept in RESULTS.md."""
