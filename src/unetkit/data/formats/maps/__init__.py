"""GeoTIFF and other maps, and outlines as labels: pixels that lie somewhere on Earth."""
