"""What iNNvestigate has and is not here, and what to use instead."""

from __future__ import annotations

_SAVED = (
    "keep name and options, which are all that an analyzer holds; patterns go to a file by "
    "`analyzer.method.patterns.save(path)`"
)
_LOADED = (
    "make the analyzer again by its name and options; patterns come from a file by `patterns=ks.Patterns.open(path)`"
)
ATTRIBUTES = {
    "fit_generator": "give `fit` one array, such as `np.concatenate([x for x, _ in batches])`; it takes it in parts",
    "save": _SAVED,
    "save_npz": _SAVED,
    "load": _LOADED,
    "load_npz": _LOADED,
}
"""Of an analyzer, by name: what to do instead."""

ELSEWHERE = {
    "LRPZ and the other classes": "the names of `create_analyzer`, or methods such as `ks.LRP` with `ks.explain`",
    "BaselineLRPZ": "`input_t_gradient`, which is what it computes",
    "GaussianSmoother, AugmentReduceBase": "`ks.SmoothGrad(base)`, `ks.SquareGrad(base)` and `ks.VarGrad(base)` around "
    "any method; `ks.NoiseGrad` for noise on the weights",
    "PathIntegrator": "`ks.IntegratedGradients`, `ks.ExpectedGradients`; paths of gradients only",
    "model_wo_softmax, model_wo_output_activation": "give the model as it is: a final softmax or sigmoid is taken off",
    "NotAnalyzeableModelException": "`ks.IncompatibleMethodError`; every error is a `ks.KerascopeError`",
    "`_reversed_tensors`": '`ks.Explainer(model, "lrp").relevances(x)`',
    "tools.perturbate: Perturbation, PerturbationAnalysis": "`benchmarks/pixel_flipping.py`, which replaces regions in "
    'the order of their relevance and scores a method by the accuracy lost; `ks.explain(model, x, "occlusion")` for '
    "what each part is worth",
    "utils.visualizations: project, heatmap, graymap, gamma, clip_quantile": "`.plot()` and `.report(path)` of what "
    "`ks.explain` returns",
    "utils.preprocess_images, postprocess_images, BatchSequence": "not needed: samples are given as the model takes "
    "them, with `batch_size=` to `ks.explain`",
    "backend.graph.reverse_model": "a `ks.Composite` with rules of your own",
    "applications": "`ks.load_model(path)` on a network of your own; patterns are fitted, none are shipped",
}
"""Other things, by name: what to use instead."""
