"""Dashboard, run detail, comparison, SQL, help."""
