"""WFDB, EDF, CSV and Parquet: values over time, and what was marked in them."""
