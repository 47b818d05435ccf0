"""Made from ``proto/session.proto`` by ``make proto``; not to be edited."""
