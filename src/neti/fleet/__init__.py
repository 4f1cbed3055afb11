"""Events in, members out: who is a member, who is lost, who is held. Pure, and without a clock."""
