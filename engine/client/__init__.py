"""What a command does before the daemon is asked, and how it is asked."""
