"""Improving the policy: rewards, the GRPO loss and its update, the co-evolution loop, checkpoints.

Knows how a step is made of the other rooms' work; knows nothing of benchmarks or reports. Its
parts are imported by file (``zerocoder_jax.training.coevolution``): the mathematics here must not
pull in the rooms that the loop needs.
"""
