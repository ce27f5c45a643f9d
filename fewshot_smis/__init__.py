"""Few-shot semantic image synthesis (Endo & Kanamori 2021), its pipeline in seven verbs.

One to five labelled pictures and a StyleGAN2 go in; a model comes out that turns new label maps
into pictures.

    import fewshot_smis as fs

    prior = fs.load_prior("prior.pkl")                        # z -> ws -> picture, features
    pairs = fs.load_pairs("pairs")                            # pictures and their label maps
    gen = fs.stream(0, "notebook")                            # every draw names its source

    # 1. Invert the pictures: codes ws [N,L,D] whose renderings look like them.
    images = pairs.images(prior.img_resolution)
    found = fs.invert(images, prior, gen=gen)

    # 2. Read labels off features: linear heads for dense maps; for sparse ones, or with the
    #    paper's method="prototypes", the features most like those of the labelled pixels.
    labels = [pair.label for pair in pairs.pairs]
    labeler = fs.fit_labeler(prior, found.ws, labels, pairs.classes, images=images)

    # 3. Train an encoder on endless samples of the prior and their pseudo labels.
    config = fs.EncoderConfig(
        in_channels=labeler.num_classes,
        num_ws=prior.num_ws,
        w_dim=prior.w_dim,
        mark_grid=labeler.resolution if labeler.sparse else 0,   # sparse marks keep their size
        mark_radius=8 if labeler.sparse else 0,                  # and are seen from afar
    )
    encoder = fs.build_encoder(config, prior.mapping.w_avg.repeat(prior.num_ws, 1))
    for report in fs.train_encoder(encoder, labeler, prior, steps=5000):
        print(report.step, report.loss)

    # 4. Draw: the map fixes the layout, the later layers take any style.
    drawn = fs.synthesize(pairs.labels(256), report.encoder, prior, styles=4, gen=gen)
    mixed = fs.mix_styles(drawn.ws[:, 0], found.ws, prior)    # in the styles of the photographs

Pictures are [N,3,H,W] in [-1,1], label maps [N,H,W] int64, codes [N,L,D]. Nothing here reads a
global random generator, names a device or prints.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from encoders import EncoderConfig, build_encoder, load_encoder
    from fewshot_smis.data import Classes, load_label_maps, load_pairs
    from fewshot_smis.editing import edit, find_change
    from fewshot_smis.inversion import invert
    from fewshot_smis.labelers import fit_labeler, load_labeler
    from fewshot_smis.refinement import refine
    from fewshot_smis.synthesis import mix_styles, synthesize
    from fewshot_smis.training import train_encoder
    from fewshot_smis.tuning import tune_prior
    from stylegan import load_generator as load_prior
    from stylegan.errors import FewshotError
    from stylegan.seeding import stream

__version__ = "0.1.0"

_WHERE = {
    "Classes": ("fewshot_smis.data", "Classes"),
    "EncoderConfig": ("encoders", "EncoderConfig"),
    "FewshotError": ("stylegan.errors", "FewshotError"),
    "build_encoder": ("encoders", "build_encoder"),
    "edit": ("fewshot_smis.editing", "edit"),
    "find_change": ("fewshot_smis.editing", "find_change"),
    "fit_labeler": ("fewshot_smis.labelers", "fit_labeler"),
    "invert": ("fewshot_smis.inversion", "invert"),
    "load_encoder": ("encoders", "load_encoder"),
    "load_label_maps": ("fewshot_smis.data", "load_label_maps"),
    "load_labeler": ("fewshot_smis.labelers", "load_labeler"),
    "load_pairs": ("fewshot_smis.data", "load_pairs"),
    "load_prior": ("stylegan", "load_generator"),
    "mix_styles": ("fewshot_smis.synthesis", "mix_styles"),
    "refine": ("fewshot_smis.refinement", "refine"),
    "stream": ("stylegan.seeding", "stream"),
    "synthesize": ("fewshot_smis.synthesis", "synthesize"),
    "train_encoder": ("fewshot_smis.training", "train_encoder"),
    "tune_prior": ("fewshot_smis.tuning", "tune_prior"),
}

__all__ = [
    "Classes",
    "EncoderConfig",
    "FewshotError",
    "build_encoder",
    "edit",
    "find_change",
    "fit_labeler",
    "invert",
    "load_encoder",
    "load_label_maps",
    "load_labeler",
    "load_pairs",
    "load_prior",
    "mix_styles",
    "refine",
    "stream",
    "synthesize",
    "train_encoder",
    "tune_prior",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that the command line starts at once."""
    if name not in _WHERE:
        raise AttributeError(f"module 'fewshot_smis' has no attribute '{name}'")
    module, attribute = _WHERE[name]
    return getattr(importlib.import_module(module), attribute)
