"""This machine as it is: its network, listeners, sessions, init system."""
