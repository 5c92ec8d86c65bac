"""What stands where pixels of an image are hidden."""

from typing import Literal

# black: 0 in RGB, as in EAC; mean: the colour that the network's normalisation turns to 0, and blur: the
# image itself, blurred with sigma 5 and a kernel of 11 pixels of a 224 frame, as in RISE
Fill = Literal["black", "mean", "blur"]
