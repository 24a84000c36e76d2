"""One pass under several protocols against a run for each: time, and that every number is the same.

    OMP_NUM_THREADS=1 python benchmarks/several_protocols.py --data DAVIS --clips dog

Prints the ratio of CPU times (all threads), pass over the sum of single runs, taken alternately; the minimum of the
rounds counts. Protocols of the first row show the network the same frames, those of the second do not.
"""

import argparse
import time

import torch

from corrkit.evaluation import evaluate_together
from corrkit.predictors.loading import make_predictor
from corrkit.protocols import load_protocol
from corrkit.subject import open_subject

ROWS = {"same input": ("cropmae", "catmae", "siammae"), "other inputs": ("dino", "cropmae", "vjepa2.1")}
BAR, AIM = 0.75, 0.6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="DAVIS root; default: the embedded clips")
    parser.add_argument("--clips", type=lambda text: text.split(","), help="default: the first clip")
    parser.add_argument("--ckpt", default="random:vit_small_patch16_224")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    predictor = make_predictor(args.ckpt, device="cpu")
    subject = open_subject("davis", data=args.data)
    clips = args.clips or [subject.clips[0].name]
    subject = open_subject("davis", data=args.data, clips=clips)
    frames = sum(len(clip.frames) for clip in subject.clips)
    print(f"{args.ckpt}, {', '.join(clips)}: {frames} frames")
    for name, protocols in ROWS.items():
        lanes = [(predictor, load_protocol(protocol, "davis")) for protocol in protocols]
        together, single = [], []
        for _ in range(args.rounds):
            seconds, results = timed(subject, lanes)
            together.append(seconds)
            alone = [timed(subject, [lane]) for lane in lanes]
            single.append(sum(seconds for seconds, _ in alone))
            for result, (_, (own,)) in zip(results, alone, strict=True):
                assert result.summary == own.summary, "a number of the pass is not that of its own run"
        bar = f"   (bar {BAR}, aim {AIM})" if name == "same input" else ""
        print(f"{name}: {', '.join(protocols)}")
        ratio = min(together) / min(single)
        print(f"  pass {min(together):7.1f} s, single runs {min(single):7.1f} s, ratio {ratio:.3f}{bar}")


def timed(subject, lanes):
    """CPU seconds and results."""
    start = time.process_time()
    results = evaluate_together(subject, lanes, outs=[None] * len(lanes))
    return time.process_time() - start, results


if __name__ == "__main__":
    main()
