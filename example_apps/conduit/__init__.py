"""Conduit: the RealWorld API. One service layer, and hosts that only route requests to it.

Read `services.articles` first, then the host you know in `hosts`.
"""
