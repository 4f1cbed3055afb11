"""Members and settings to what the kernel should hold. Pure."""
