"""The plain HTTP side: the public and the admin site, what they answer and how they refuse."""
