"""What methods of several studies report: accuracies, object heatmaps, shifted sets, pictures."""
