"""The REST API: takes jobs into the queue, tells what becomes of them, hands out what they make."""
