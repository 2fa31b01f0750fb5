"""What all trainings of text-to-image models here share, whatever the recipe (`curation/distill/` is one)."""
