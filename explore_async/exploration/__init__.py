"""The pure heart: which request is worth asking next, and what an answer means.

No I/O, no clock, no asyncio, no global random state: `Explorer` is driven from outside
(see explore_async.running.driver).
"""
