"""The rollouts stage: the student's own answers to the corpus' prompts, and how they came about.

settings what decoding the prompts reads, and of that what one unit reads
groups   whether the answers to a prompt are copies of each other
steps    a rollout step by step, rebuilt from its reveal steps, for people
stage    SPEC: one unit per chunk of prompts and number of the answer
"""
