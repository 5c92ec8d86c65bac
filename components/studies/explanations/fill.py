"""What stands where pixels of an image are hidden."""

from typing import Literal

# black: 0 in RGB, as in EAC; mean: the colour that the network's normalisation turns to 0, as in RISE; blur:
# the image itself, blurred by a Gaussian with sigma 5 that is cut at 11 pixels of a 224 frame, mirrored at
# its border; rise_blur: the same as RISE's code makes it, with the Gaussian's tails folded back into these
# pixels, which makes it all but flat, and with the mean colour beyond the border
Fill = Literal["black", "mean", "blur", "rise_blur"]
Substrate = Literal["blur", "rise_blur"]
