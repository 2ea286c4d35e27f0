"""The forward and reverse process: schedules, loss, guidance and samplers."""
