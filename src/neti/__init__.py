"""Neti: firewall and address sync for fleets that live on two networks at once."""

__version__ = "0.1.0"
