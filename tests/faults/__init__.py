"""What must not happen when files, disks, flags and inputs are bad, tried many times over."""
