"""What a run would take, found out by rehearsing it on a clock of its own."""
