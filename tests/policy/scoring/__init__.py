"""Score the classifier against labelled command lines. Never decides what a line should be: the labels say that."""
