"""Events: received, stored, filtered and handed to the stages that want them; missed ones are found again."""
