"""MASK -> ws: encoders that turn a label map into the codes of a StyleGAN.

encoder = encoders.load_encoder("psp_celebs_seg_to_face.pt")
ws = encoder(onehot)            # [N,K,256,256] -> [N,L,D], the latent average included
"""

from encoders.checkpoint import load_encoder, save_encoder
from encoders.psp import EncoderConfig, MaskEncoder, build_encoder

__all__ = ["EncoderConfig", "MaskEncoder", "build_encoder", "load_encoder", "save_encoder"]
