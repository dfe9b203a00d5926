"""A sink of your own: a picture whenever somebody comes, and a line with how long they stayed. own_sink.py [SOURCE] [MODEL]."""
