"""Seeds: several trainings of one metric on one split as one model, whose scores are means with a spread."""
