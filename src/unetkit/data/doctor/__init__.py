"""What is wrong with a set, in which file, and how to mend it."""
