"""Cuts out what a text names: Grounding DINO finds it, SAM 2.1 tracks it. Card: docs/models/prompted.md."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from alphareel.domain.clip import Clip, EngineFacts
from alphareel.domain.errors import ModelUnavailable
from alphareel.domain.options import Options
from alphareel.matting.engine import Engine, MattingSession, ModelInfo
from alphareel.matting.grounding import GroundingDino, load_grounding
from alphareel.matting.runtime import Runtime, threads_for
from alphareel.matting.subjects import PromptedSession, SubjectTracker, phrases_of
from alphareel.matting.torch_runtime import is_installed, set_threads
from alphareel.matting.tracking import Sam, load_sam
from alphareel.matting.weights import Weights, WeightsFile, verify_file

INFO = ModelInfo(
    name="prompted",
    version="1",
    subject="what a text names",
    summary="Finds what text_prompt names (Grounding DINO) and tracks it (SAM 2.1). Requires the pro extra.",
    code_license="Apache-2.0",
    weights_license="Apache-2.0",
    author_statement="Both repositories put code and checkpoints under Apache-2.0.",
    training_data="Its authors' training data: for Grounding DINO also captions whose terms were not published.",
    weights="grounding-dino-tiny, sam2.1-hiera-tiny",
    temporal=True,
    prompted=True,
)

_DINO, _SAM = "grounding-dino-tiny", "sam2.1-hiera-tiny"
_HUB = "https://huggingface.co"
_BASE_URLS = {
    _DINO: f"{_HUB}/IDEA-Research/{_DINO}/resolve/a2bb814dd30d776dcf7e30523b00659f4f141c71",
    _SAM: f"{_HUB}/facebook/{_SAM}/resolve/de431c4043854a71d8101e17995dfe596bf101a5",
}
_FILES = (
    (_DINO, "config.json", 1_644, "eec82c5ab66e16df12a9a212e68ac011779927c2536cf9078658e35d85f0c67a"),
    (_DINO, "tokenizer.json", 711_396, "d241a60d5e8f04cc1b2b3e9ef7a4921b27bf526d9f6050ab90f9267a1f9e5c66"),
    (_DINO, "tokenizer_config.json", 1_237, "d40ab645b68211910b9170d22433d43186a6ec8ee6fd10ba170524b25bf4fb56"),
    (_DINO, "special_tokens_map.json", 125, "b6d346be366a7d1d48332dbc9fdf3bf8960b5d879522b7799ddba59e76237ee3"),
    (_DINO, "vocab.txt", 231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
    (_DINO, "model.safetensors", 689_359_096, "1a2412ef99bd74bcd3c2a246fa1e48581f8889a1300c9051974741314fc042f3"),
    (_SAM, "config.json", 5_695, "860aff9751b139d83a4ad7df1e5535416fded533e0ead02625edbefcb9953cce"),
    (_SAM, "model.safetensors", 155_908_064, "48c14467e5cf9e51870511feb72c89688e82dd74523142c0538b663e193ac2a7"),
)

WEIGHTS = Weights(
    name="prompted",
    pattern=f"{_DINO}/model.safetensors",
    code_license=INFO.code_license,
    weights_license=INFO.weights_license,
    source=f"{_HUB}/IDEA-Research/{_DINO}",
    files=tuple(
        WeightsFile(f"{folder}/{name}", f"{_BASE_URLS[folder]}/{name}", size, sha256)
        for folder, name, size, sha256 in _FILES
    ),
)

_NO_EXTRA = "The pro extra is not installed: pip install 'alphareel[pro]'."


def available(models_dir: Path | None) -> str | None:
    """See ``matting.engine``."""
    if not is_installed():
        return _NO_EXTRA
    missing = _missing(models_dir)
    if missing:
        return f"{missing[0]} is not in the models folder; download it with: alphareel models pull {INFO.name}."
    assert models_dir is not None
    _hash(models_dir)
    return None


def load(runtime: Runtime) -> Engine:
    """Load both networks on the CPU. See ``matting.engine``."""
    if not is_installed():
        raise ModelUnavailable(_NO_EXTRA, hint="It installs PyTorch, about a gigabyte.")
    missing = _missing(runtime.models_dir)
    if runtime.models_dir is None or missing:
        raise ModelUnavailable(
            f"The engine {INFO.name} needs {len(missing)} files that are not in the models folder: {missing[0]} ...",
            hint=f"Download them with: alphareel models pull {INFO.name}.",
        )
    facts = INFO.facts(_hash(runtime.models_dir))
    set_threads(threads_for(runtime))
    return PromptedEngine(facts, load_grounding(runtime.models_dir / _DINO), load_sam(runtime.models_dir / _SAM))


@dataclass(frozen=True)
class PromptedEngine:
    facts: EngineFacts
    grounding: GroundingDino
    sam: Sam

    def start(self, clip: Clip, options: Options) -> MattingSession:
        """Start a session for ``options.text_prompt``. Raises InvalidRequest for too many words."""
        phrases = phrases_of(options.text_prompt)
        finder = self.grounding.finder(phrases, aspect=clip.width / clip.height)
        subjects = SubjectTracker(phrases, finder, self.sam.start())
        return PromptedSession(clip, subjects, model_input_size=(self.sam.size, self.sam.size))


def _missing(models_dir: Path | None) -> list[str]:
    return [f.path for f in WEIGHTS.files if models_dir is None or not (models_dir / f.path).is_file()]


def _hash(models_dir: Path) -> str:
    """One hash for both networks: the hash of the hashes of all files. Raises WeightsInvalid."""
    hashes = [verify_file(WEIGHTS, models_dir / file.path) for file in WEIGHTS.files]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()
