"""From video files to overlay, masks and coordinates: what is written, what is kept, what memory holds."""

import csv
import errno
import weakref
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from clip_video import moving_square, square_mask, write_video
from colour_backbone import ColourBackbone
from PIL import Image

import corrkit
from corrkit.errors import DataError, RunError, UsageError
from corrkit.files.atomic import TEMPORARY
from corrkit.frames.footage import Footage, open_footage
from corrkit.palette import voc_palette
from corrkit.tasks.masks import read_mask, write_mask
from corrkit.tracking.following import Followed, follow
from corrkit.tracking.given import Given, given_boxes, given_mask, given_points
from corrkit.tracking.products import Products

FIRST = Given(source="first.png", labels=square_mask())


def tracker() -> corrkit.Tracker:
    return corrkit.Tracker(ColourBackbone(8), size=[48], multiple=8)


def followed(video: Path, out: Path, given: Given = FIRST, stream: corrkit.Tracker | None = None) -> Followed:
    return follow(open_footage(video), given, stream or tracker(), Products(out, video, given.names))


def shown(path: Path) -> list[np.ndarray]:
    return [frame for _, frame in open_footage(path)]


def test_the_overlay_and_the_masks_have_every_frame(tmp_path: Path):
    video = write_video(tmp_path / "clip.mp4", moving_square(7), rate=10)
    result = followed(video, tmp_path / "new/out.mp4")
    assert result == Followed(frames=7, stopped=None, notes=())
    masks = sorted((tmp_path / "new/out-masks").iterdir())
    assert [path.name for path in masks] == [f"{n:05d}.png" for n in range(7)]
    with Image.open(masks[3]) as mask:
        assert mask.mode == "P"
        assert mask.getpalette() == voc_palette().ravel().tolist()
    np.testing.assert_array_equal(read_mask(masks[0]), square_mask())
    for index, path in enumerate(masks):
        found, truth = read_mask(path) == 1, square_mask(index) == 1
        assert (found & truth).sum() > 0.5 * (found | truth).sum()
    overlay = shown(tmp_path / "new/out.mp4")
    assert [frame.shape for frame in overlay] == [(48, 64, 3)] * 7
    assert open_footage(tmp_path / "new/out.mp4").rate == pytest.approx(10)
    before = shown(video)
    is_object = read_mask(masks[6]) == 1
    change = np.abs(overlay[6].astype(int) - before[6]).mean(axis=2)
    assert change[is_object].mean() > 5 * change[~is_object].mean()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["out-masks", "out.mp4"]


def test_points_become_a_table_and_masks_of_a_folder_keep_its_names(tmp_path: Path):
    for index, frame in enumerate(moving_square(4, size=(47, 63))):
        (tmp_path / "frames").mkdir(exist_ok=True)
        Image.fromarray(frame).save(tmp_path / f"frames/im{8 + index}.png")
    (tmp_path / "points.csv").write_text("name,x,y\nleft,8.5,24\nright,16,24\n")
    stream = corrkit.Tracker(ColourBackbone(8), size=[48, 64], radius=2)
    result = followed(tmp_path / "frames", tmp_path / "out.mp4", given_points(tmp_path / "points.csv"), stream)
    assert result.frames == 4
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [(row["frame"], row["point"]) for row in rows[:3]] == [("0", "left"), ("0", "right"), ("1", "left")]
    assert (rows[0]["x"], rows[0]["y"], rows[0]["time"]) == ("8.500", "24.000", "0.000")
    assert len(rows) == 8
    assert not (tmp_path / "out-masks").exists()
    mask = Given(source="first.png", labels=square_mask(size=(47, 63)))
    followed(tmp_path / "frames", tmp_path / "masks.mp4", mask)
    assert sorted(p.stem for p in (tmp_path / "masks-masks").iterdir()) == ["im10", "im11", "im8", "im9"]
    assert shown(tmp_path / "masks.mp4")[0].shape == (48, 64, 3)  # odd sides are made even


def test_a_point_that_is_lost_has_no_coordinates(tmp_path: Path):
    class Lost:
        notes = ()

        def start(self, frame, labels):
            return labels

        def step(self, frame):
            return np.full((1, 2), np.nan)

    video = write_video(tmp_path / "clip.avi", moving_square(2))
    given = Given(source="points", labels=np.array([[3.0, 4.0]]), names=("nose, left",))
    followed(video, tmp_path / "out.mp4", given, Lost())
    assert (tmp_path / "out.csv").read_text().splitlines()[1:] == [
        '0,0.000,"nose, left",3.000,4.000',
        '1,0.083,"nose, left",,',
    ]


def test_what_a_broken_video_gave_is_kept(tmp_path: Path):
    size = (96, 128)
    whole = write_video(tmp_path / "clip.avi", moving_square(12, size)).read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) * 2 // 3])
    result = followed(
        tmp_path / "cut.avi", tmp_path / "out.mp4", Given(source="first.png", labels=square_mask(0, size))
    )
    assert isinstance(result.stopped, DataError)
    assert f"decoding stopped at frame {result.frames} of 12" in str(result.stopped)
    assert 1 < result.frames < 12
    assert len(shown(tmp_path / "out.mp4")) == result.frames == len(list((tmp_path / "out-masks").iterdir()))


def test_a_frame_of_another_size_ends_it(tmp_path: Path):
    for index, frame in enumerate(moving_square(3)):
        (tmp_path / "frames").mkdir(exist_ok=True)
        Image.fromarray(frame[: 48 - 4 * (index == 2)]).save(tmp_path / f"frames/{index}.png")
    result = followed(tmp_path / "frames", tmp_path / "out.mp4")
    assert result.frames == 2 == len(shown(tmp_path / "out.mp4"))
    assert "frame 2 is 64x44, frame 0 is 64x48" in str(result.stopped)


class NaNFromTheThird(ColourBackbone):
    seen = 0

    def encode(self, frames):
        for features in super().encode(frames):
            self.seen += 1
            yield features * (float("nan") if self.seen > 2 else 1)


def test_features_that_break_down_cost_nothing_that_was_done(tmp_path: Path):
    video = write_video(tmp_path / "clip.avi", moving_square(5))
    stream = corrkit.Tracker(NaNFromTheThird(8), size=[48], multiple=8)
    result = followed(video, tmp_path / "out.mp4", FIRST, stream)
    assert "features of frame 2 are NaN" in str(result.stopped)
    assert result.frames == 2 == len(shown(tmp_path / "out.mp4"))


class Staged(Footage):
    """Frames made while they are asked for; what happens at frame `end` is raised."""

    def __init__(self, end: int, error: BaseException | None = None) -> None:
        super().__init__()
        self.path, self.stated, self.rate = Path("staged.mp4"), None, 12.0
        self.alive: list[weakref.ref[np.ndarray]] = []
        self._end, self._error = end, error
        self.most = 0

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        for index in range(self._end):
            frame = moving_square(index % 12 + 1)[-1]
            self.alive.append(weakref.ref(frame))
            if index > 20:
                self.most = max(self.most, sum(ref() is not None for ref in self.alive))
            yield index / 12, frame
            del frame
        if self._error is not None:
            raise self._error


def test_memory_holds_two_frames_whatever_the_length(tmp_path: Path):
    """The one that is written, and the one that comes."""
    most = []
    for length in (30, 60):
        footage = Staged(length)
        follow(footage, FIRST, tracker(), Products(tmp_path / f"{length}.mp4", footage.path))
        most.append(footage.most)
    assert most[0] == most[1] <= 2


def test_an_interrupt_keeps_what_was_done(tmp_path: Path):
    footage = Staged(5, KeyboardInterrupt())
    result = follow(footage, FIRST, tracker(), Products(tmp_path / "out.mp4", footage.path))
    assert isinstance(result.stopped, KeyboardInterrupt)
    assert len(shown(tmp_path / "out.mp4")) == 5


def test_nothing_is_left_where_nothing_was_done(tmp_path: Path):
    for error in (DataError("no frame", "mend it"), RuntimeError("a bug")):
        footage = Staged(0 if isinstance(error, DataError) else 3, error)
        with pytest.raises(type(error)):
            follow(footage, FIRST, tracker(), Products(tmp_path / "out.mp4", footage.path))
    assert list(tmp_path.iterdir()) == []


def test_frames_that_an_encoder_loses_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A full disk: OpenCV's writer says nothing."""
    video = write_video(tmp_path / "clip.avi", moving_square(4))

    class Lossy:
        fourcc = staticmethod(cv2.VideoWriter.fourcc)

        def __init__(self, *arguments):
            self._writer, self._count = cv2_writer(*arguments), 0

        def write(self, frame):
            self._count += 1
            if self._count < 3:
                self._writer.write(frame)

        def __getattr__(self, name):
            return getattr(self._writer, name)

    cv2_writer = cv2.VideoWriter
    monkeypatch.setattr(cv2, "VideoWriter", Lossy)
    with pytest.raises(corrkit.CorrkitError, match=r"out.mp4 can't be written: the encoder lost frames"):
        followed(video, tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["clip.avi"]


def test_places_where_nothing_is_written(tmp_path: Path):
    video = write_video(tmp_path / "clip.mp4", moving_square(2))
    (tmp_path / "data/JPEGImages").mkdir(parents=True)
    (tmp_path / "data/Annotations").mkdir()
    (tmp_path / "taken-masks").mkdir()
    (tmp_path / "taken-masks/mine.png").write_bytes(b"mine")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "old.mp4").write_bytes(b"mine")
    (tmp_path / "points.csv").write_text("1,2\n")
    with pytest.raises(UsageError, match=r"points.csv is there already"):
        Products(tmp_path / "points.mp4", video, ("point 0",))
    for out, said in (
        ("clip.mp4", "is the video itself"),
        ("data/out.mp4", "inside the data set"),
        ("taken.mp4", "taken-masks is there already"),
        ("old.mp4", "old.mp4 is there already"),
        ("out.avi", "is no name of an overlay video"),
        ("out", "is no name of an overlay video"),
        ("folder.mp4", "is a folder"),
    ):
        with pytest.raises(UsageError, match=said):
            Products(tmp_path / out, video)
    with pytest.raises(UsageError, match="inside the data set"):
        Products(tmp_path / "taken-masks/out.mp4", tmp_path / "taken-masks")  # a folder of frames
    (tmp_path / "free-masks").mkdir()
    followed(video, tmp_path / "free.mp4")  # an empty folder is none


def test_a_command_that_was_killed_between_masks_and_video_is_repeated(tmp_path: Path):
    video, out = write_video(tmp_path / "clip.mp4", moving_square(3)), tmp_path / "out.mp4"
    followed(video, out)
    whole = {path.name: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    masks = sorted((tmp_path / "out-masks").iterdir())
    (tmp_path / f"{TEMPORARY}dead").mkdir()
    out.rename(tmp_path / f"{TEMPORARY}dead/out.mp4")
    followed(video, out)
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == whole
    (tmp_path / f"{TEMPORARY}dead").mkdir()
    out.rename(tmp_path / f"{TEMPORARY}dead/out.mp4")
    masks[1].write_bytes(masks[0].read_bytes())
    with pytest.raises(UsageError, match="out-masks is there already"):
        followed(video, out)
    assert masks[1].read_bytes() == masks[0].read_bytes()
    assert not out.exists()


def test_what_was_placed_before_a_file_that_cannot_be_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    video, out = write_video(tmp_path / "clip.mp4", moving_square(3)), tmp_path / "out.mp4"
    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        if target == out:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(RunError, match="No space left"):
        followed(video, out)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_boxes_are_masks_and_the_later_one_is_in_front():
    ids = given_boxes("1,2,4,5; 3,3,8,4").on((6, 9), Path("v.mp4"))
    expected = np.zeros((6, 9), np.uint8)
    expected[2:5, 1:4] = 1
    expected[3:4, 3:8] = 2
    np.testing.assert_array_equal(ids, expected)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,2,3", "is no box"), ("1,2,3,x", "is no box"), ("-1,2,3,4", "is no box"), ("4,2,4,5", "is empty"),
        ("5,2,4,5", "is empty"), ("", "0 boxes"), ("0,0,10,5", "beyond the frames of 9x6"),
        ("0,0,9,6", "no background"), ("1,1,3,3;0,0,5,5", "Box 1 is hidden"),
    ],
)  # fmt: skip
def test_wrong_boxes_are_named(text: str, said: str):
    with pytest.raises(UsageError, match=said):
        given_boxes(text).on((6, 9), Path("v.mp4"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1.5,2\n3,4\n", ("point 0", "point 1")),
        ("a,1.5,2\nb,3,4\n", ("a", "b")),
        ("x;y\n1.5;2\n\n3;4\n", ("point 0", "point 1")),
        ("y,point,x\n2,left knee,1.5\n4,b,3\n", ("left knee", "b")),
        ("1.5 2\n3 4", ("point 0", "point 1")),
        ("\ufeffname\tx\ty\r\na\t1.5\t2\r\nb\t3\t4\r\n", ("a", "b")),
    ],
)
def test_points_of_any_table(text: str, names: tuple[str, ...], tmp_path: Path):
    (tmp_path / "points.csv").write_text(text, encoding="utf-8", newline="")
    given = given_points(tmp_path / "points.csv")
    assert given.names == names
    np.testing.assert_array_equal(given.on((6, 9), Path("v.mp4")), [[1.5, 2], [3, 4]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds 0 points"), ("name,x,y\n", "holds 0 points"), ("1,2\n3\n", "line 2: '3' is no point"),
        ("a,b,c,d\n", "line 1"), ("1,nan\n", "line 1"), ("x,y\n1,2\n,4\n", "line 3"),
        ("1,2\n9,2\n", r"point 1 at \(9, 2\) lies outside"), ("frame,x,y\n0,1,2\n", "column of frames"),
        ("1_0,2\n", "line 1"), ("name,x,y\n1,2\n", "line 2"), ("a,1,2\na,3,4\n", "line 2: 'a' names two points"),
        ("a\x1b[2J,1,2\n", "no name of a point"), ("\u202ea,1,2\n", "no name of"),
        ("1,2\n" * 1001, "holds 1001 points"),
    ],
)  # fmt: skip
def test_wrong_points_are_named(text: str, said: str, tmp_path: Path):
    (tmp_path / "points.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        given_points(tmp_path / "points.csv").on((6, 9), Path("v.mp4"))


def test_first_masks_are_read_as_a_data_sets_are(tmp_path: Path):
    path = tmp_path / "first.png"
    binary = square_mask() * np.uint8(255)
    Image.fromarray(binary).save(path)
    np.testing.assert_array_equal(given_mask(path).on((48, 64), path), square_mask())
    void = square_mask()
    void[0] = 255
    write_mask(path, void)
    np.testing.assert_array_equal(given_mask(path).on((48, 64), path), square_mask())
    with pytest.raises(DataError, match=r"first.png is 64x48, the frames of v.mp4 are 48x64, turned"):
        given_mask(path).on((64, 48), Path("v.mp4"))
    for ids, said in (
        (np.zeros((4, 4), np.uint8), "it holds no object"),
        (np.full((4, 4), 2, np.uint8), "no pixel of the first mask has id 0"),
        (np.arange(0, 256, 16, dtype=np.uint8).reshape(4, 4), "grey levels or soft edges"),
    ):
        Image.fromarray(ids).save(path)
        with pytest.raises(DataError, match=said):
            given_mask(path)
    Image.fromarray(square_mask()).save(tmp_path / "first.jpg")
    with pytest.raises(DataError, match="may be lossy"):
        given_mask(tmp_path / "first.jpg")
