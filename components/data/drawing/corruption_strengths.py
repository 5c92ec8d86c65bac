"""How strong the five severities of a corruption are.

Two tables: that of CIFAR-10-C for images whose shorter side is below SMALL, that of ImageNet-C for others.
All values are the published ones (Hendrycks and Dietterich 2019, arXiv 1903.12261, and their code) but those
of elastic_transform, which are ours: the published ones trade shift for bending, and their error does not
grow.

The published ones do not always grow either. Of small images: motion_blur is the same at 3 and 4; glass_blur
displaces as much at 1 to 3, and more at 4 and 5, but blurs less at 4 than at 3. Of large ones: fog is as
dense at 3 as at 4, and finer; glass_blur takes fewer rounds at 2 than at 1 and at 4 than at 3, and its
published form copies less far.
"""

from typing import Any

SEVERITIES = (1, 2, 3, 4, 5)
SMALL = 128  # shorter side in pixels below which the table of CIFAR-10-C holds
SIDES = (32, 224)  # of the images that the tables were made for

# by corruption: five strengths for small images, five for large ones; lengths in pixels at these SIDES
STRENGTHS: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {
    # standard deviation of the noise
    "gaussian_noise": ((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    # photons of white
    "shot_noise": ((500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
    # share of the values
    "impulse_noise": ((0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)),
    # radius of the disk, standard deviation of its smoothing
    "defocus_blur": (
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    # standard deviation of the blur, largest displacement, rounds
    "glass_blur": (
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    ),
    # half length of the kernel, standard deviation along it
    "motion_blur": (
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    ),
    # end and step of the zooms from 1, as numpy's arange counts
    "zoom_blur": (
        ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    ),
    # mean and standard deviation of the flakes, their zoom, threshold, half length and deviation of the
    # motion, share of the image that is not whitened
    "snow": (
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    # amount of fog, decay of its detail
    "fog": (
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    # added to the value of HSV
    "brightness": ((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    # what is left of it
    "contrast": ((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    # root mean square displacement, smoothness of the displacements; largest shift of the image's corners
    "elastic_transform": (
        ((0.3, 1.5, 0.4), (0.5, 1.5, 0.6), (0.7, 1.5, 0.8), (0.9, 1.5, 1.0), (1.2, 1.5, 1.2)),
        ((1.5, 6, 3), (2.5, 6, 4), (3.5, 6, 5), (5, 6, 6), (7, 6, 7)),
    ),
    # share of the resolution
    "pixelate": ((0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
    # quality
    "jpeg_compression": ((80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
}
