"""Who may ask the teacher, and when: limits, the governor that shares them out, and the clients' side of it."""
