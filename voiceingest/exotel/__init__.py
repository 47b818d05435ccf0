"""Exotel beyond the socket: calls that are placed, and the URLs that are given out for them.

``urls`` says where Exotel reaches this daemon, ``api`` places calls, ``callbacks`` signs the URLs at
which it tells what became of them. What Exotel asks over HTTP is answered in ``http.exotel``.
"""
