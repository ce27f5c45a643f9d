"""`report`: what every system does with one and five labelled pictures, and with all of them."""
