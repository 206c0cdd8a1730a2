"""windowsfilter keeps Windows container layers: on any operating system, without unpacking them."""
