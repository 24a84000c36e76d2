"""`corrkit track`: a mask, boxes or points of a first frame, carried through a video of one's own."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from corrkit.cli.arguments import add_device_argument, add_loading_arguments, assignment, loading_of
from corrkit.cli.talk import say, show
from corrkit.errors import CorrkitError, UsageError

if TYPE_CHECKING:
    from corrkit.tracking.given import Given

EXAMPLES = """\
examples:
  corrkit track bear.mp4 --mask first.png --ckpt dino.pth --out out/bear.mp4
  corrkit track frames/ --points joints.csv --ckpt hog --out followed.mp4
  corrkit track bear.webm --boxes "40,60,210,190;300,80,420,200" --ckpt rgb --out bear.mp4 --set size=240

OUT.mp4 shows the labels on the frames; beside it are OUT-masks/00000.png, ... (ids in DAVIS's palette) or, of points,
OUT.csv. A mask is a PNG of ids, 0 being background; points are lines of x,y or name,x,y. See docs/track.md."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit track`."""
    parser.add_argument("video", type=Path, help="video file (mp4, mov, avi, mkv, webm, gif, webp) or folder of frames")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--mask", metavar="FIRST.png", type=Path, help="objects of the first frame: a PNG of ids")
    given.add_argument("--points", metavar="FILE", type=Path, help="points of the first frame: lines of name,x,y")
    given.add_argument("--boxes", metavar="X0,Y0,X1,Y1;...", help="boxes of the first frame, in pixels")
    parser.add_argument("--ckpt", required=True, metavar="SPEC", help="what follows them, as for corrkit eval")
    parser.add_argument("--out", required=True, type=Path, metavar="OUT.mp4", help="the overlay video")
    parser.add_argument("--protocol", metavar="NAME", help="of davis (default davis/dino); of jhmdb for points")
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], type=assignment, help="override a constant"
    )
    add_loading_arguments(parser, "layer")
    add_device_argument(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def run(args: argparse.Namespace) -> int:
    """Follows, prints where the files are; returns 2 where the video broke off."""
    from corrkit.cli.eval_words import describe
    from corrkit.cli.progress import FrameProgress
    from corrkit.frames.footage import open_footage
    from corrkit.predictors.loading import make_predictor
    from corrkit.tracking.following import follow
    from corrkit.tracking.products import Products
    from corrkit.tracking.tracker import Tracker, constants_for

    given = _given(args)
    products = Products(args.out, args.video, given.names)
    footage = open_footage(args.video)
    loading = loading_of(args)
    predictor = make_predictor(args.ckpt, device=args.device, loading=loading)
    # Overrides are a mapping of their own: as arguments of Tracker they would meet its other options.
    asked = constants_for(args.protocol, dict(args.set), points=given.are_points)
    tracker = Tracker(predictor, protocol=asked)
    protocol = tracker.protocol_for(points=given.are_points)
    say(*describe(predictor, [protocol]), f"protocol: {protocol.identifier}{' (modified)' * bool(protocol.overrides)}")
    with FrameProgress(quiet=args.quiet) as progress:
        followed = follow(footage, given, tracker, products, progress)
    for note in (*predictor.notes_under(protocol), *followed.notes):
        say(f"note: {note}")
    show(*map(str, products.places))
    if followed.stopped is None:
        return 0
    say(f"{followed.frames} frames are kept.")
    if isinstance(followed.stopped, KeyboardInterrupt):
        raise followed.stopped
    say(*f"corrkit: {followed.stopped}".split("\n"))
    return CorrkitError.exit_code


def _given(args: argparse.Namespace) -> "Given":
    from corrkit.tracking.given import given_boxes, given_mask, given_points

    if args.mask is not None:
        if args.mask.is_file() and args.mask.resolve().parent == Path(os.path.realpath(args.video)):
            raise UsageError(f"{args.mask} lies among the frames, and would count as one.", "Move it elsewhere.")
        return given_mask(args.mask)
    return given_points(args.points) if args.points is not None else given_boxes(args.boxes)
