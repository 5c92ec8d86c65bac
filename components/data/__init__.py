"""What an image data set is: its card, its images, the columns that stages wrote of them."""
