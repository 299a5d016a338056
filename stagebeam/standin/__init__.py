"""The stand-in teacher: an OpenAI-compatible server that knows the embedded world by heart.

It reads a picture's truth from the PNG's metadata, where no model sees it, and writes what a
teacher would, with mistakes at rates one can set. It takes the place of a real teacher in the
quickstart and the tests, and says that it is a stand-in wherever it speaks.
"""
