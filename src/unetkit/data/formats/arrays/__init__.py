"""Zarr, HDF5 and NumPy: arrays that say more or less of what their axes are."""
