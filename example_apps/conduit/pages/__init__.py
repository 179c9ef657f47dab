"""Pages to read Conduit by: the newest articles, one article, one person. They know no web framework either.

`site.answer` turns a path and its parameters into a page; `starlette`, `flask` and `django` have a host answer with it.
"""
