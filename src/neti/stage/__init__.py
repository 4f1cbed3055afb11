"""Shadow, trial, enforced: may this host enforce? Pure."""
