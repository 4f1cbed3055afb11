"""What survives a reboot: files, their records, and who may read them."""
