"""What a command does where no agent runs."""
