"""Where audio goes: one file per kind of bus, and the delivery that wraps any of them."""
