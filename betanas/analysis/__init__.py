"""What a study has shown: numbers first, then tables and figures."""
