"""The arena: several ways to train a segmentation network, the same minutes on the same cores, scored by one code."""
