"""Pseudo labels in reference mode equal those of the public code, pixel for pixel."""

import pytest
import torch
from torch import Tensor

from fewshot_smis.data import Classes, one_hot, resize_label
from fewshot_smis.labelers import (
    DenseLabeler,
    SparseLabeler,
    feature_resolution,
    fit_labeler,
    label_samples,
)
from fewshot_smis.labelers.prototypes import (
    PixelPrototypes,
    cell_prototypes,
    class_prototypes,
)
from stylegan import Generator
from stylegan.rosinality import generator_from_rosinality
from stylegan.sizes import build_generator, generator_weights
from tests.parity.case import Call, Case, load_case

GIVEN = ("smis_given_5shot", "smis_given_1shot_tie")
SIZE = 256  # of the reference's label maps


def dense_labeler(case: Case, feats: Tensor, masks: Tensor) -> DenseLabeler:
    num = case.args["label_nc"]
    label = resize_label(masks.long(), (feats.shape[2], feats.shape[3]))
    proto = class_prototypes(feats, one_hot(label, num))
    return DenseLabeler(Classes.generic(num), proto, resolution=64, reference=True)


def sparse_labeler(case: Case, call: Call, feats: Tensor, masks: Tensor) -> SparseLabeler:
    label = resize_label(masks.long(), (feats.shape[2], feats.shape[3]))
    shots = [cell_prototypes(f, m) for f, m in zip(feats, label, strict=True)]
    return SparseLabeler(
        Classes.generic(case.args["label_nc"], sparse=True),
        PixelPrototypes(torch.cat([s.proto for s in shots]), torch.cat([s.ids for s in shots])),
        resolution=64,
        topk=call.spec["topk"],
        threshold=call.spec["cos_th"],
        reference=True,
    )


@pytest.mark.parametrize("name", GIVEN)
def test_dense_labels_from_given_features(name):
    case = load_case(name)
    call = case.call("dense")
    shots, target = (call.inputs[k].float() for k in ("shot_features", "target_features"))
    labeler = dense_labeler(case, shots, call.inputs["masks"])
    call.check("prototypes", labeler.proto, **case.tolerance["prototypes"])
    label = resize_label(labeler({64: target}), SIZE)[:, None]
    assert torch.equal(label, call.outputs["labels"].long())
    score = labeler.scores({64: target}).topk(2, dim=1).values
    call.check("margin", score[:, 0] - score[:, 1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", GIVEN)
def test_sparse_labels_from_given_features(name):
    case = load_case(name)
    call = case.call("sparse_k3_th05")
    shots, target = (call.inputs[k].float() for k in ("shot_features", "target_features"))
    masks = call.inputs["masks"]
    labeler = sparse_labeler(case, call, shots, masks)
    cells = resize_label(masks.long(), (64, 64))
    counts = torch.bincount(cells.flatten(), minlength=labeler.num_classes)
    assert torch.equal(counts, call.outputs["prototype_counts"].long())
    assert torch.equal(torch.bincount(labeler.ids, minlength=len(counts))[1:], counts[1:])
    label = resize_label(labeler({64: target}), SIZE)[:, None]
    want = call.outputs["labels"].long()
    last = call.outputs["labels_without_return_latents"].long()
    if name == "smis_given_1shot_tie":  # which of 36 equal pixels are taken is free, not how many
        for sample in label:
            corner = sample[..., -24:, -24:]
            assert int((corner == 4).sum()) == 48
            assert int((corner == 6).sum()) == 0
        for part in (label, want, last):
            part[..., -24:, -24:] = 0
    assert torch.equal(label, want)
    assert torch.equal(label[-1:], last)


def decoder(case: Case) -> Generator:
    """Return the generator of a pSp state dict."""
    state = {k.removeprefix("decoder."): v for k, v in case.weights.items()}
    weights = generator_weights(generator_from_rosinality(state), case.name)
    return build_generator(weights, case.name)


@pytest.mark.parametrize("name", ["smis_generator64_1shot", "smis_generator256_5shot"])
def test_labels_from_latents_and_masks(name):
    case = load_case(name)
    prior = decoder(case)
    assert feature_resolution(prior, reference=True) == 64
    for call in case.calls:
        codes, masks = call.inputs["shot_codes"], call.inputs["masks"].long()
        sparse = call.spec["op"] == "sparse"
        classes = Classes.generic(case.args["label_nc"], sparse=sparse)
        options = {"topk": 3, "threshold": 0.5} if sparse else {}
        labeler = fit_labeler(prior, codes, masks, classes, reference=True, **options)
        ws = prior.mapping(call.inputs["target_z"])
        label = label_samples(labeler, prior, ws, SIZE)[:, None]
        want = call.outputs["labels"].long()
        if sparse:
            assert float((label == want).float().mean()) >= 0.9995
            last = call.outputs["labels_without_return_latents"].long()
            assert float((label[-1:] == last).float().mean()) >= 0.9995
            continue
        call.check("prototypes", labeler.proto, **case.tolerance["prototypes"])
        clear = resize_label(call.outputs["margin"], SIZE)[:, None] > 1e-4
        assert torch.equal(label[clear], want[clear])
        call.check("target_latent", ws, rtol=1e-3, atol=1e-3)
        target = prior.synthesis(ws, feature_resolutions=(64,))
        call.check("target_img", target.img, rtol=1e-3, atol=1e-3)
        call.check("target_feature_map", target.feats[64], **case.tolerance["feature maps"])
