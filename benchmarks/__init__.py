"""How fast the pooler is and what it costs; see README.md. Never part of an installed package."""
