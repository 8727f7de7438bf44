"""The cost of a run before it: by arithmetic, and by rehearsing it on a virtual clock."""
