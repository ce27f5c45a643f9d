"""The painting app: a page to draw on, and the model behind it.

`studio` is the model's side (label map in, pictures out), `desk` lets many people share it,
`server` speaks HTTP, and `page/` is what the browser shows: plain files, nothing fetched from
elsewhere.
"""
