"""The ground floor of every room that touches a disk: bounded reading, whole or no writing, JSON text, archives."""
