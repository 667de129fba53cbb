"""What the command line shows: values of the JSON shapes in, text out. Pure; one module a noun.

Rules: whatever a domain's XML, a device or a process could have put into a text passes `text.clean`, so that nothing of
it steers a terminal. Readable first: what is so, why, what to do next.
"""
