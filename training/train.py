"""Train the network on shards, by the clock.

    python train.py --shards runs/shards --out runs/first
    python train.py --shards runs/shards --out runs/second --start runs/first.onnx

The second run goes on from what the first one exported, and lets the encoder learn too.
The schedule follows the training time used, kept in the checkpoint: started again with the same arguments it
goes on where it was, and learning ends when the minutes are used up. `<out>/last.pt` holds everything,
`<out>/ema.pt` the averaged weights for export.py, `<out>/half.pt` those of half the time.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing import Value
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from augment import ANY_SUBJECT, Mix
from check_subject import Material, check
from dataset import Batch, SampleDataset, open_loader
from finetune import learn_from_file
from losses import matting_loss, recognition_loss
from model import Matte, Output
from schedule import FIRST, FORK, SECOND, SUBJECT, SUBJECT_FIRST, Settings, Stage, rate_factor


@dataclass(frozen=True)
class Paths:
    """Where pictures come from, what samples show, where the run is kept, what it goes on from, and what checks it."""

    shards: Path
    out: Path
    start: Path | None
    mix: Mix
    material: Material | None = None


class Run:
    """Model, averaged model, optimizer and clock of one run; can be written to a file and read back."""

    def __init__(self, settings: Settings, paths: Paths, device: torch.device, *, half: bool) -> None:
        """`half`: multiply in bfloat16."""
        self.crew = dist.get_world_size() if dist.is_initialized() else 1
        self.settings, self.paths, self.device, self.half = settings, paths, device, half
        self.model = Matte().to(device, memory_format=torch.channels_last).train()
        if settings.encoder_pace:
            self.model.encoder.thaw()
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self._groups(), lr=settings.rate)
        self.seconds, self.step, self.frames = 0.0, 0, 0

    @property
    def share(self) -> float:
        """Part of the training time that is used up."""
        return self.seconds / (60 * self.settings.minutes)

    @property
    def stage(self) -> Stage:
        return self.settings.stage(self.share)

    def learn(self, batch: Batch) -> float:
        """One step; returns the loss."""
        self._wake_encoder()
        rgb = batch.rgb.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
        true = batch.alpha.to(self.device, non_blocking=True).unsqueeze(1).float() / 255
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            output = self.model.recognize(rgb) if batch.coarse else self.model.sequence(rgb, batch.length)
        if isinstance(output, Output):
            loss = matting_loss(in_full(output), true, batch.length)
        else:
            loss = recognition_loss(output.float(), true)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._agree()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = group["pace"] * self.settings.rate * rate_factor(self.share)
        self.optimizer.step()
        self.step, self.frames = self.step + 1, self.frames + self.crew * len(batch.rgb)
        self._follow()
        return loss.item()

    def save_half(self) -> None:
        """Keep the averaged weights of half the time; those of the end are not better at everything."""
        path = self.paths.out / "half.pt"
        if self.share >= 0.5 and not path.exists():
            write(self.average.state_dict(), path)

    def save(self) -> None:
        """Write the whole state, and the averaged weights beside it."""
        state = {name: getattr(self, name).state_dict() for name in ("model", "average", "optimizer")}
        state |= {name: getattr(self, name) for name in ("seconds", "step", "frames")}
        write(state, self.paths.out / "last.pt")
        write(self.average.state_dict(), self.paths.out / "ema.pt")

    def load(self) -> None:
        """Go on from the last state; or begin with an exported file, or with what the encoder knows of the world."""
        path = self.paths.out / "last.pt"
        if not path.exists():
            if self.paths.start:
                learn_from_file(self.model, self.paths.start, pictures(self.paths, self.settings))
            else:
                self.model.encoder.learn_from_imagenet()
            self.average.load_state_dict(self.model.state_dict())
            return
        state = torch.load(path, map_location=self.device)
        for name in ("model", "average", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.seconds, self.step, self.frames = state["seconds"], state["step"], state["frames"]

    def _wake_encoder(self) -> None:
        """Let the encoder learn from its share of the time on: what is built on it settles first."""
        awake = self.share >= self.settings.encoder_rests
        for parameter in self.optimizer.param_groups[0]["params"]:
            parameter.requires_grad_(requires_grad=awake)

    def _agree(self) -> None:
        """Processes that learn together take the mean of their gradients, and of the time that they used."""
        if not dist.is_initialized():
            return
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        seconds = torch.tensor([self.seconds], dtype=torch.float64)
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        for values in (flat, seconds):
            dist.all_reduce(values)
            values.div_(dist.get_world_size())
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))
        self.seconds = seconds.item()

    @torch.no_grad()
    def _follow(self) -> None:
        keep = min(self.settings.average, self.step / (self.step + 10))
        pairs = zip(self.average.state_dict().values(), self.model.state_dict().values(), strict=True)
        for mean, value in pairs:
            if mean.is_floating_point():
                mean.lerp_(value, 1 - keep)
            else:
                mean.copy_(value)

    def _groups(self) -> list[dict[str, object]]:
        """What learns; weight decay is for matrices only, and the encoder learns slowly and keeps what it knows."""
        world = {id(p) for p in self.model.encoder.parameters()}
        ours = [p for p in self.model.parameters() if p.requires_grad]
        old = [p for p in ours if id(p) in world]
        matrices, rest = ([p for p in ours if id(p) not in world and (p.ndim > 1) is m] for m in (True, False))
        decay = self.settings.decay
        return [
            {"params": old, "weight_decay": 0.0, "pace": self.settings.encoder_pace},
            {"params": matrices, "weight_decay": decay, "pace": 1.0},
            {"params": rest, "weight_decay": 0.0, "pace": 1.0},
        ]


def facts(run: Run, loss: float) -> dict[str, float]:
    """Where a run stands."""
    return {"minutes": run.seconds / 60, "share": run.share, "step": run.step, "frames": run.frames, "loss": loss}


def pictures(paths: Paths, settings: Settings) -> Iterator[Tensor]:
    """Pictures (N, 3, H, W) in 0..1 as the first stage shows them."""
    stills = replace(settings, stages=(replace(settings.stages[0], sequences=0.0),))
    feed = SampleDataset(paths.shards, stills, settings.seed, Value("d", 0), paths.mix)
    return (batch.rgb.permute(0, 3, 1, 2).float() / 255 for batch in feed)


def in_full(output: Output) -> Output:
    """What losses are computed from, in full precision."""
    return Output(*(values.float() for values in output))


def write(state: object, path: Path) -> None:
    """Save by renaming, so that a crash never leaves half a file."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.rename(path)


class Log:
    """A line every now and then with the mean loss and the speed."""

    def __init__(self, every: float) -> None:
        self._every, self._losses, self._since, self._frames = every, [], time.monotonic(), 0

    def add(self, run: Run, loss: float, frames: int) -> None:
        self._losses.append(loss)
        self._frames += frames
        took = time.monotonic() - self._since
        if took < self._every:
            return
        print(
            f"{time.strftime('%H:%M:%S')} share {run.share:.3f} side {run.stage.side} step {run.step}",
            f"frames {run.frames} ({self._frames / took:.1f}/s) loss {np.mean(self._losses):.4f}",
            f"rate {run.optimizer.param_groups[-1]['lr']:.1e}",
            flush=True,
        )
        self._losses, self._since, self._frames = [], time.monotonic(), 0


@dataclass(frozen=True)
class Machine:
    """What learns: `processes` on CPU cores, or one with a GPU; each has `workers` that draw samples for it."""

    device: torch.device
    processes: int
    workers: int
    half: bool

    @classmethod
    def found(cls, processes: int, workers: int) -> Machine:
        """What is there; half precision where the processor multiplies in it."""
        gpu = torch.cuda.is_available()
        half = gpu or "avx512_bf16" in (Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else "")
        return cls(torch.device("cuda" if gpu else "cpu"), processes, workers, half)


def train(number: int, settings: Settings, paths: Paths, machine: Machine) -> None:
    """Learn until the time is used up, as one process of several; the first one writes."""
    torch.set_num_threads(1)
    if machine.processes > 1:
        meeting = f"file://{paths.out.resolve()}/meeting"
        dist.init_process_group("gloo", meeting, rank=number, world_size=machine.processes)
    torch.manual_seed(settings.seed)
    run, log = Run(settings, paths, machine.device, half=machine.half), Log(settings.log_every)
    run.load()
    share = Value("d", run.share)
    feed = SampleDataset(paths.shards, settings, settings.seed + run.step + 104729 * number, share, paths.mix)
    batches = open_loader(feed, machine.workers, pin=machine.device.type == "cuda")
    tell = time.process_time if settings.processor_time else time.monotonic
    saved, checked = time.monotonic(), run.seconds
    clock, loss = tell(), 0.0
    while run.share < 1:
        batch = next(batches)
        now, used = time.monotonic(), tell()
        run.seconds, clock = run.seconds + used - clock, used
        loss = run.learn(batch)
        share.value = run.share
        if number == 0:
            log.add(run, loss, run.crew * len(batch.rgb))
            run.save_half()
            if now - saved > settings.save_every:
                run.save()
                saved = now
            if paths.material and run.seconds - checked > settings.check_every:
                check(run.average, paths.out, facts(run, loss), paths.material)
                clock, checked = tell(), run.seconds
    if number == 0:
        run.save()
        if paths.material:
            check(run.average, paths.out, facts(run, loss), paths.material)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=Path, default=Path("runs/shards"))
    parser.add_argument("--out", type=Path, default=Path("runs/first"))
    parser.add_argument("--start", type=Path, help="an exported file to go on from, by the schedule for that")
    parser.add_argument("--minutes", type=float, help="97 from chance, 80 from a file")
    parser.add_argument(
        "--batch-factor", type=int, default=Settings.batch_factor, help="times the frames per step, for a GPU"
    )
    parser.add_argument("--workers", type=int, default=0, help="processes that draw samples; 0: the training itself")
    parser.add_argument("--processes", type=int, default=1, help="that learn together, one a core; with a GPU one")
    parser.add_argument("--subject", action="store_true", help="whatever stands in front, by the schedule for that")
    parser.add_argument("--fork", action="store_true", help="a short run that goes on from a file of its own kind")
    parser.add_argument("--seed", type=int, help="of another run with the same pictures")
    parser.add_argument("--mix", nargs="+", default=[], metavar="NAME=SHARE", help="other shares of augment.Mix")
    parser.add_argument("--check", type=Path, nargs=3, metavar="DIR", help="objects, data and empty scenes to check on")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "meeting").unlink(missing_ok=True)
    first, going_on = (SUBJECT_FIRST, SUBJECT) if options.subject else (FIRST, SECOND)
    if options.fork and not options.start:
        parser.error("--fork goes on from a file: it needs --start")
    recipe = FORK if options.fork else going_on if options.start else first
    settings = replace(recipe, batch_factor=options.batch_factor, seed=options.seed or recipe.seed)
    settings = replace(settings, minutes=options.minutes or settings.minutes)
    mix = (ANY_SUBJECT if options.subject else Mix()).changed(options.mix)
    if options.processes > 1 and (options.workers or torch.cuda.is_available()):
        parser.error("several processes are for a CPU, and draw their samples themselves, to change stages together")
    machine = Machine.found(options.processes, options.workers)
    material = Material(*options.check) if options.check else None
    paths = Paths(options.shards, options.out, options.start, mix, material)
    if machine.processes == 1:
        train(0, settings, paths, machine)
    else:
        torch.multiprocessing.spawn(train, (settings, paths, machine), nprocs=machine.processes)


if __name__ == "__main__":
    main()
