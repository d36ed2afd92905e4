"""Which kernel to train next: from what is measured to a proposal inside the exact rules.

Nothing here knows of networks but ``plan.py``, ``rules.ArchitectureRules`` and ``recommend.py``.

The way of a proposal: ``problem`` (space, rules, first phase) -> ``situation`` (what the database
holds) -> ``strategies`` (which of them is asked) -> ``botorch_strategy`` -> ``surrogate`` (the
model of kernels: BoTorch's, ``botorch_model``, fitted by ``likelihood``) -> ``acquisitions`` (what
rates a kernel by it) -> ``acquisition`` (the best feasible one) -> ``sampler`` (Optuna's view).

Notation, in code and docstrings:

    d       searched parameters, fixed ones included
    n, m    kernels: n observed or asked about, m asked about beside n observed
    p, s    kernels that are being trained (pending); that the pruner stopped
    c       features of a kernel: costs and profile of the network it decodes to
    e       inputs that a model sees of a kernel: free parameters, one an option of a choice
    g       groups of inputs, each with a Gaussian process of its own, of which the model is the sum
    kernel  a vector, ``d``, float64: a real number, a whole number, a choice's option by its place
    unit    a kernel in the unit cube, ``d``: what is searched evenly, logarithms included
    value   of a trial: accuracy in [0, 1], or what the objective measures; more is better
    target  a standardised value: less the mean, over the deviation of the observed values
    std     standard deviation, in the units of value; of one observation: that of a stopped trial,
            whose end is only foreseen, beside the noise that all have
    noise   variance of a target around the noise-free process; learnt, equal for all observations
    scale   length scale of an input, in its unit
"""
