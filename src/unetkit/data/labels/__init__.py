"""What the labels mean: values, colours, files, outlines, words; and how they become classes."""
