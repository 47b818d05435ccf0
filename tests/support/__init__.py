"""What tests share: base cases, the runner, servers, tokens and the daemon as a process."""
