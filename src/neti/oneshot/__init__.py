"""The work of commands: what they do where no agent runs, and beside one."""
