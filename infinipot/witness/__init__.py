"""The second witness: a really pretrained decoder, SmolLM2-135M-Instruct, that learned to see the synthetic world."""
