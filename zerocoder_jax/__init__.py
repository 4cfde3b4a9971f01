"""ZeroCoder in JAX: one policy co-evolves as Coder and Tester, with no labels.

Data flows one way, and the packages are its stations: ``problems`` (what is to be solved),
``execution`` (running it), ``selection`` (whom to believe), ``policy`` (the model), ``parallel``
(where it lives), ``rollout`` (sampling from it), ``training`` (improving it), ``evaluation``
(measuring it), ``report`` (showing it), ``benchmarks`` (how fast it is). A package imports only
from those before it in this list.
"""

__version__ = "0.1.0"
