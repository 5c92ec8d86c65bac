"""Means and standard deviations of the channels of images in [0, 1], by which networks normalise them."""

Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]
IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CENTRED: Statistics = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
