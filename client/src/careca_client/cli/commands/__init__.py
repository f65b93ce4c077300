"""The subcommands of ``careca``, one module for each command or group. No command imports another."""
