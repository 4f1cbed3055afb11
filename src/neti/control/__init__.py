"""The socket between commands and the agent."""
