"""PNG, JPEG, BMP, GIF and TIFF of every kind."""
