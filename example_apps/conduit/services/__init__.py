"""Conduit without a web framework: all of its rules, and its data.

Start with `articles`; `layer` puts the services together.
"""
