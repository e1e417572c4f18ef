"""The rehearsal: the main job, end to end, on servers started here."""
