"""Requests over HTTP to endpoints that may be slow, limited or broken."""
