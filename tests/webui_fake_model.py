"""Test extension for A1111 1.10 and Forge: stands in for the checkpoint, so that txt2img and img2img run
the whole of processing.process_images_inner on the CPU without one. Nothing is written; all in memory.

FAKE_PICTURE       image that the "VAE" decodes (read anew on each decode; several, separated by os.pathsep:
                   batch entry i shows image i modulo their number)
FAKE_IMG2IMG       "image" (default): img2img decodes FAKE_PICTURE as well; "init": it gives back what was
                   encoded (the initial image, or the crop of it with "only masked")
FAKE_STEP_SECONDS  time that each sampling step takes (default 0), to try interrupt, skip and progress
FAKE_FACES         faces that stubbed ReActor "finds": "x1,y1,x2,y2;..." ; without it OpenCV's Haar cascade is used
"""

import contextlib
import os
import sys
import time
import types

import modules.processing as processing
import numpy as np
import torch
from modules import script_callbacks, sd_models, sd_samplers, sd_vae, shared
from PIL import Image, ImageOps

FORGE = hasattr(sd_models, "forge_model_reload")


def log(*args):
    print("[fake_model]", *args, flush=True)


def picture(index, width, height):
    names = [x for x in os.environ.get("FAKE_PICTURE", "").split(os.pathsep) if x]
    image = Image.open(names[index % len(names)]).convert("RGB") if names else Image.new("RGB", (64, 64), (90, 120, 150))
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.LANCZOS)
    # a quarter step up: process_images_inner truncates to uint8, so this round-trips exactly
    return torch.from_numpy((np.asarray(image, np.float32) + 0.25) / 255 * 2 - 1).permute(2, 0, 1)


class Part(torch.nn.Module):
    """an empty network with any attributes"""

    def __init__(self, **attributes):
        super().__init__()
        for name, value in attributes.items():
            setattr(self, name, value)

    def clone(self):
        return self

    def encode_embedding_init_text(self, text, count):
        return torch.zeros(count, 768)

    def tokenize(self, texts):
        return [[0] for _ in texts]


class ForgeObjects:
    def __init__(self, unet, clip, vae, clipvision=None):
        self.unet, self.clip, self.vae, self.clipvision = unet, clip, vae, clipvision

    def shallow_copy(self):
        return ForgeObjects(self.unet, self.clip, self.vae, self.clipvision)


class FakeModel(torch.nn.Module):
    """Latents carry two numbers: channel 0 the batch position + 1 (a sampled image), channel 1 the number of
    an encoded image + 1."""

    def __init__(self):
        super().__init__()
        self.sd_checkpoint_info = types.SimpleNamespace(
            name="fake.safetensors",
            name_for_extra="fake",
            model_name="fake",
            title="fake.safetensors [0000000000]",
            short_title="fake [0000000000]",
            filename="fake.safetensors",
            hash="0" * 8,
            shorthash="0" * 10,
            sha256="0" * 64,
            metadata={},
            ids=["fake"],
            registered="fake",
            is_safetensors=True,
            modelspec_thumbnail=None,
            calculate_shorthash=lambda: "0" * 10,
        )
        self.sd_model_checkpoint = self.filename = "fake.safetensors"
        self.sd_model_hash = "0" * 10
        self.used_config = None
        self.lowvram = False
        self.is_sd1, self.is_sd2, self.is_sd3, self.is_sdxl, self.is_ssd = True, False, False, False, False
        self.is_inpaint = self.is_sdxl_inpaint = False
        self.cond_stage_key = "txt"
        self.parameterization = "eps"
        self.latent_channels = 4
        self.dtype = torch.float32
        self.cond_stage_model = Part()
        self.first_stage_model = Part(dtype=torch.float32)
        self.model = Part(conditioning_key="crossattn", diffusion_model=Part())
        self.cond_stage_model_empty_prompt = torch.zeros(1, 77, 768)
        self.encoded, self.count = {}, 0
        # Forge
        self.comments, self.extra_generation_params = [], {}
        self.tiling_enabled = False
        self.use_distilled_cfg_scale = False
        self.model_config = types.SimpleNamespace()
        self.current_lora_hash = "[]"
        vae = Part(latent_channels=4)
        unet = Part(model=Part(storage_dtype=torch.float32), model_options={})
        self.forge_objects = ForgeObjects(unet, Part(), vae)
        self.forge_objects_original = self.forge_objects.shallow_copy()
        self.forge_objects_after_applying_lora = self.forge_objects.shallow_copy()

    @contextlib.contextmanager
    def ema_scope(self, *args, **kwargs):
        yield

    def get_learned_conditioning(self, texts):
        return torch.zeros(len(texts), 77, 768)

    def set_clip_skip(self, clip_skip):
        pass

    def get_prompt_lengths_on_ui(self, prompt):
        return len(prompt.split()), 75

    def is_webui_legacy_model(self):
        return True

    def encode_first_stage(self, x):  # -1..1
        latents = torch.zeros(x.shape[0], 4, x.shape[2] // 8, x.shape[3] // 8)
        for i, image in enumerate(x):
            self.encoded[self.count] = image.detach().float().cpu().clone()
            self.encoded.pop(self.count - 32, None)
            self.count += 1
            latents[i, 1] = self.count
        return latents

    def get_first_stage_encoding(self, x):
        return x

    def decode_first_stage(self, z):
        result = []
        for latent in z:
            height, width = latent.shape[1] * 8, latent.shape[2] * 8
            index, slot = round(float(latent[0].max())) - 1, round(float(latent[1].max())) - 1
            if index < 0 and slot in self.encoded:
                image = self.encoded[slot]
                if image.shape[1:] != (height, width):
                    image = torch.nn.functional.interpolate(
                        image[None], size=(height, width), mode="bicubic", antialias=True
                    )[0].clamp(-1, 1)
                result.append(image + 0.5 / 255)
                log(f"decoded encoded image {slot} at {width}x{height}")
            else:
                result.append(picture(max(index, 0), width, height))
                log(f"decoded image {max(index, 0)} at {width}x{height}")
        return torch.stack(result)


class FakeSampler:
    conditioning_key = "crossattn"
    eta = 0
    initial_step = 0

    def __init__(self, name, model):
        self.config = sd_samplers.find_sampler_config(name)
        self.model_wrap = types.SimpleNamespace(inner_model=model)
        self.extra_params, self.stop_at, self.p = [], None, None

    def run(self, p, x, steps, latent):
        steps = steps or p.steps
        log(f"sampling {tuple(x.shape)}, {steps} steps, {type(p).__name__}")
        shared.state.sampling_steps, shared.state.sampling_step = steps, 0
        pause = float(os.environ.get("FAKE_STEP_SECONDS") or 0)
        for step in range(steps):
            if shared.state.interrupted or shared.state.skipped:
                break
            shared.state.sampling_step = step
            time.sleep(pause)
        if latent is not None:
            return latent.clone()
        result = torch.zeros(x.shape[0], 4, *x.shape[2:])
        for i in range(len(result)):
            result[i, 0] = i + 1
        return result

    def sample(self, p, x, conditioning, unconditional_conditioning, steps=None, image_conditioning=None):
        return self.run(p, x, steps, None)

    def sample_img2img(self, p, x, noise, conditioning, unconditional_conditioning, steps=None, image_conditioning=None):
        keep = isinstance(p, processing.StableDiffusionProcessingImg2Img) and os.environ.get("FAKE_IMG2IMG") == "init"
        return self.run(p, x, steps, x if keep else None)


def install():
    model = FakeModel()
    sd_models.model_data.sd_model = model
    sd_samplers.create_sampler = FakeSampler  # called as sd_samplers.create_sampler(name, model)
    sd_vae.reload_vae_weights = lambda *args, **kwargs: None
    sd_models.reload_model_weights = lambda *args, **kwargs: model
    sd_models.select_checkpoint = lambda: model.sd_checkpoint_info  # Forge classic and reForge ask for it in hires fix
    sd_models.apply_token_merging = lambda *args, **kwargs: None
    if FORGE:
        sd_models.forge_model_reload = processing.forge_model_reload = lambda: (model, False)
        processing.apply_token_merging = lambda *args, **kwargs: None
    else:
        sd_models.model_data.was_loaded_at_least_once = True
    log("installed in", "Forge" if FORGE else "A1111", "- image:", os.environ.get("FAKE_PICTURE"))


# --- ReActor: its detector and its swap model --------------------------------------------------------------


def find_faces(img_data, det_size=(640, 640), det_thresh=0.5, det_maxnum=0):
    """stands in for scripts.reactor_swapper.analyze_faces; img_data is BGR"""
    import cv2
    from insightface.app.common import Face

    given = os.environ.get("FAKE_FACES")
    if given:
        boxes = [[float(v) for v in box.split(",")] for box in given.split(";")]
    else:
        cascade = cv2.CascadeClassifier(os.path.join(cv2.data.haarcascades, "haarcascade_frontalface_default.xml"))
        gray = cv2.cvtColor(np.ascontiguousarray(img_data[:, :, :3]), cv2.COLOR_BGR2GRAY)
        found = cascade.detectMultiScale(gray, 1.1, 6, minSize=(max(24, min(gray.shape) // 12),) * 2)
        boxes = [[x, y, x + w, y + h] for x, y, w, h in found]
    faces = []
    for x1, y1, x2, y2 in boxes:
        w, h = x2 - x1, y2 - y1
        points = [[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]]
        faces.append(
            Face(
                bbox=np.array([x1, y1, x2, y2], np.float32),
                det_score=0.9,
                kps=np.array([[x1 + a * w, y1 + b * h] for a, b in points], np.float32),
                embedding=np.ones(512, np.float32),
                gender=0,
                age=30,
                pose=np.zeros(3, np.float32),
                landmark_3d_68=np.zeros((68, 3), np.float32),
                landmark_2d_106=np.zeros((106, 2), np.float32),
            )
        )
    log("ReActor stub:", len(faces), "face(s)", [face.bbox.round().tolist() for face in faces])
    return faces


class FakeSwapModel:
    """stands in for inswapper: mirrors the face, tints it and blurs it as a 128-pixel model does"""

    def get(self, img, target_face, source_face, paste_back=True):
        import cv2

        x1, y1, x2, y2 = (round(float(v)) for v in target_face.bbox)
        x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2, img.shape[1]), min(y2, img.shape[0])
        crop = cv2.resize(
            cv2.resize(img[y1:y2, x1:x2][:, ::-1], (128, 128), interpolation=cv2.INTER_AREA), (x2 - x1, y2 - y1)
        ).astype(np.float32)
        crop = crop * [0.85, 1.0, 1.1]
        mask = np.zeros(crop.shape[:2], np.float32)
        cv2.ellipse(
            mask,
            (mask.shape[1] // 2, mask.shape[0] // 2),
            (int(mask.shape[1] * 0.42), int(mask.shape[0] * 0.46)),
            0,
            0,
            360,
            1,
            -1,
        )
        mask = cv2.GaussianBlur(mask, (0, 0), max(1, mask.shape[1] / 30))[..., None]
        result = img.copy()
        result[y1:y2, x1:x2] = np.clip(crop * mask + result[y1:y2, x1:x2] * (1 - mask), 0, 255).astype(np.uint8)
        return result


def stub_reactor(*args):
    swapper = sys.modules.get("scripts.reactor_swapper")
    if swapper is None:
        return
    swapper.analyze_faces = find_faces
    swapper.getFaceSwapModel = lambda path: FakeSwapModel()
    log("ReActor stubbed: analyze_faces, getFaceSwapModel")


install()
script_callbacks.on_before_ui(stub_reactor)
script_callbacks.on_app_started(stub_reactor)
