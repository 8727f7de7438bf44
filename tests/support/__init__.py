"""What several tests use: the command line in a process, servers that misbehave, slow and obvious oracles."""
