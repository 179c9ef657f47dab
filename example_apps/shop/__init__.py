"""A small shop: items with stock, and orders for them.

`layer` puts the services together; none of it knows a framework. Each ``*_app`` module is a host: the same routes over
the same services, in Starlette, FastAPI, Flask or Django.
"""
