"""Edits of domain XML: text in, text out.

Rules: pure. What an edit is not about stays byte for byte: comments, order, white space, elements of other programs.
So nothing is parsed and written again; elements are found by their place in the text, cut out and put in. An edit is a
list of changes (hostlerd.model.edits.Change), each of which can be taken back alone, also when others changed the rest
meanwhile.
"""
