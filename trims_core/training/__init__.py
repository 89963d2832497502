"""LoRA fine-tuning of the student on masks drawn from the buckets."""
