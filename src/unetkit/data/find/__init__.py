"""What a folder holds: images, their labels, and how they belong together."""
