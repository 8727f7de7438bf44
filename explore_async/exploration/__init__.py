"""The pure part of a run: it decides which request is worth asking next, and what a completion leads to.

No I/O, no clock, no asyncio, no global random state: `Explorer` is driven from outside
(see explore_async.running.driver).
"""
