"""Image files that a list, a CSV, JSON lines or Parquet file names, with labels of any kind."""
