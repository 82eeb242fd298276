"""From files to what a network sees, and back: grids, intensities, patches, stores."""
