"""From videos to cached latents: what is read, what is left out, and when an encoding is computed anew."""

from dataclasses import replace
import logging
import os
import subprocess

from animatic_pack.training.batches import Batch, clip_index, stack
from animatic_pack.training.cache import Cache, Encoders, cached_clips, encode_manifest
from animatic_pack.training.camera import MOVES, CameraMove
from animatic_pack.training.engine import OneDevice
from animatic_pack.training.manifest import Clip, ClipSampling, draw_clips
from animatic_pack.training.posed_clips import PackedPoses, cache_for
from animatic_pack.training.prepare import Plan, check_length
from animatic_pack.training.sources import FrameBatch, VideoFile, videos_in_folder, videos_in_table, with_poses
from animatic_pack.training.stages import ANIMATE_ANYONE, ANIMATE_ANYONE_MOTION, DOMAIN_ADAPTER, STAGES
from animatic_pack.training.trainer import TrainingSettings
import imageio_ffmpeg
import pytest
import torch
from training_models import one_thread, write_video  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = ClipSampling(num_frames=4, stride=2, size=(64, 64), seed=5)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("videos") / "wave.mp4"
    write_video(path)
    return path


def encoders(calls: list | None = None, identity: str = "vae 1") -> Encoders:
    def frames(pictures):
        if calls is not None:
            calls.append("frames")
        mean = pictures.mean(dim=(1, 2, 3))[:, None, None, None].expand(-1, 4, 8, 8)
        return mean, torch.full_like(mean, 0.1)

    def text(caption):
        if calls is not None:
            calls.append(caption)
        return torch.full((7, 24), float(len(caption)))

    return Encoders(frames, text, identity)


def encode(manifest, cache):
    rejected = encode_manifest(manifest, cache, OneDevice())
    return cached_clips(manifest, cache), rejected


class Noting:
    """An engine that notes in `events` when this process waits for the others."""

    device = torch.device("cpu")

    def __init__(self, rank: int, world_size: int, events: list):
        self.rank, self.world_size, self.events = rank, world_size, events

    def wait(self):
        self.events.append("wait")


@pytest.mark.parametrize("rank", [0, 1])
def test_processes_wait_for_each_other_after_every_clip(video, tmp_path, rank, monkeypatch):
    manifest = draw_clips([VideoFile(video, "")], replace(SMALL, clips_per_video=5))
    events = []
    monkeypatch.setattr(Cache, "add", lambda cache, clip, check: events.append("clip"))
    encode_manifest(manifest, Cache(tmp_path, encoders()), Noting(rank, 2, events))
    assert events == (["clip", "wait"] * 3 if rank == 0 else ["clip", "wait"] * 2 + ["wait"]), "each three times"


def test_a_folder_gives_videos_with_their_captions(video, tmp_path, caplog):
    for name in ("b.mp4", "a.mp4"):
        (tmp_path / name).write_bytes(video.read_bytes())
    (tmp_path / "a.txt").write_text(" a wave \n at night ", encoding="utf-8")
    (tmp_path / "c.txt").write_text("no video", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        found = videos_in_folder(tmp_path, "water")
    assert [(v.name, v.caption) for v in found] == [("a.mp4", "a wave at night"), ("b.mp4", "water")]
    assert "1 of 2 videos have no caption file, such as b.mp4" in caplog.text
    assert "1 captions have no video, such as c.txt" in caplog.text


def test_captions_in_the_encodings_of_windows(video, tmp_path):
    (tmp_path / "a.mp4").write_bytes(video.read_bytes())
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "a.txt").write_text("caf\u00e9 \u52d5\u753b", encoding=encoding)
        assert [v.caption for v in videos_in_folder(tmp_path)] == ["caf\u00e9 \u52d5\u753b"]
    (tmp_path / "a.txt").write_text("caf\u00e9", encoding="cp1252")
    with pytest.raises(ValueError, match="a.txt is not in UTF-8, .* Save it in UTF-8"):
        videos_in_folder(tmp_path)
    (tmp_path / "a.txt").write_text(" ")
    assert [v.caption for v in videos_in_folder(tmp_path, "water")] == ["water"]


def test_folders_that_are_missing_empty_or_hold_captions_alone_are_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        videos_in_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has no video. Put videos into it"):
        videos_in_folder(tmp_path)
    (tmp_path / "a.txt").write_text("a wave")
    with pytest.raises(ValueError, match=r"only captions \(1 .txt files\), and no video for them"):
        videos_in_folder(tmp_path)


def test_a_webvid_table_gives_the_videos_that_are_there(video, tmp_path, caplog):
    (tmp_path / "7.mp4").write_bytes(video.read_bytes())
    table = tmp_path / "table.csv"
    table.write_text('videoid,name,page_dir\n7,"a wave, at night",x\n8,gone,x\n')
    with caplog.at_level(logging.WARNING):
        (found,) = videos_in_table(table, tmp_path)
    assert (found.path, found.caption) == (tmp_path / "7.mp4", "a wave, at night")
    assert "1 of the 2 videos of table.csv are not in" in caplog.text
    table.write_text("videoid,name,page_dir\r\n7,,x\r\n", encoding="utf-16")
    assert [v.caption for v in videos_in_table(table, tmp_path, "water")] == ["water"]


def test_a_table_with_a_missing_column_or_no_video_is_said(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("videoid,caption\n7,a wave\n")
    with pytest.raises(ValueError, match="table.csv has no column name, only videoid, caption"):
        videos_in_table(table, tmp_path)
    table.write_text("videoid,name,page_dir\n7,a wave,x\n")
    with pytest.raises(ValueError, match="None of the 1 videos of table.csv is in"):
        videos_in_table(table, tmp_path)
    table.write_text("videoid,name\n7,caf\u00e9\n", encoding="cp1252")
    with pytest.raises(ValueError, match="table.csv is not in UTF-8"):
        videos_in_table(table, tmp_path)
    table.write_text("")
    with pytest.raises(ValueError, match="no column videoid and no column name, only an empty first line"):
        videos_in_table(table, tmp_path)
    for outside in ("../7", "/7", "C:7", "a\\7"):
        table.write_text(f"videoid,name,page_dir\n{outside},a wave,x\n")
        with pytest.raises(ValueError, match="must be a file's name without its .mp4"):
            videos_in_table(table, tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no table"):
        videos_in_table(tmp_path / "other.csv", tmp_path)


def test_a_clip_has_the_frames_of_its_stride(video):
    clip = Clip(VideoFile(video, ""), start=3, stride=4, num_frames=3, frame_rate=0, size=(64, 64))
    greys = clip.frames().mean(dim=(1, 2, 3)) * 255
    assert clip.frames().shape == (3, 64, 64, 3)
    assert torch.allclose(greys, torch.tensor([30.0, 70.0, 110.0]), atol=3)


def test_clips_are_drawn_the_same_from_the_same_seed(video):
    videos = [VideoFile(video, "a wave")]
    many = ClipSampling(num_frames=4, stride=2, size=(64, 64), clips_per_video=8, seed=5, flip=True)
    drawn = draw_clips(videos, many)
    assert drawn == draw_clips(videos, many) and drawn.digest() == draw_clips(videos, many).digest()
    assert len({clip.start for clip in drawn.clips}) > 2
    assert all(0 <= clip.start <= 20 - 7 for clip in drawn.clips)
    assert {clip.flip for clip in drawn.clips} == {True, False}


def test_moves_vary_between_gentle_and_strong_and_pans_are_never_flipped(video):
    for name in ("PanLeft", "ZoomIn"):
        gentle, strong = MOVES[name]
        many = ClipSampling(4, 2, 0, (64, 64), 12, gentle, strong, flip=True)
        clips = draw_clips([VideoFile(video, "")], many).clips
        moves = [clip.move for clip in clips]
        assert len(set(moves)) == 12
        assert all(gentle.zoom <= move.zoom <= strong.zoom for move in moves)
        assert any(clip.flip for clip in clips) == (name == "ZoomIn")


def test_short_and_broken_videos_are_named_and_left_out(video, tmp_path, caplog):
    good = VideoFile(video, "")
    write_video(tmp_path / "short.mp4", num_frames=5)
    (tmp_path / "page.mp4").write_text("<html>not found</html>")
    bad = [VideoFile(tmp_path / name, "") for name in ("short.mp4", "page.mp4")]
    with caplog.at_level(logging.WARNING):
        manifest = draw_clips([*bad, good], SMALL)
    assert [clip.source for clip in manifest.clips] == [good]
    assert manifest.rejected[0].startswith("short.mp4 has 5 frames, but a clip of 4 frames at stride 2 takes 7")
    assert "page.mp4 is not a video" in manifest.rejected[1] and "left out: short.mp4" in caplog.text
    with pytest.raises(ValueError, match="None of the 2 videos can be used. short.mp4 has 5 frames.*page.mp4"):
        draw_clips(bad, SMALL)
    with pytest.raises(ValueError, match="no video to draw clips from"):
        draw_clips([], SMALL)


def test_a_truncated_video_is_named_and_left_out_when_it_is_encoded(video, tmp_path):
    class Cut(VideoFile):
        def num_frames(self, frame_rate, check):
            return 100  # what its header says

    good, cut = VideoFile(video, "good"), Cut(video, "cut")
    sampling = ClipSampling(num_frames=4, stride=6, size=(64, 64), seed=1)
    manifest = draw_clips([good, cut], sampling)
    clips, rejected = encode(manifest, Cache(tmp_path, encoders()))
    assert len(clips) == 1 and "wave.mp4" in rejected[0]
    with pytest.raises(ValueError, match="The video cannot be used"):
        encode(draw_clips([cut], sampling), Cache(tmp_path / "other", encoders()))
    with pytest.raises(ValueError, match="wave.mp4 is damaged or cut short: .* 90 on it gives 0 of 4"):
        Clip(cut, start=90, stride=6, num_frames=4, frame_rate=0, size=(64, 64)).frames()


def test_frames_are_counted_where_the_container_may_not_tell(tmp_path):
    """Sound that lasts longer makes a file state more frames than it has."""
    path = tmp_path / "talk.mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", "testsrc=s=64x64:r=25:d=1"]
    command += ["-f", "lavfi", "-i", "sine=d=2", "-pix_fmt", "yuv420p", str(path)]
    subprocess.run(command, check=True)
    assert VideoFile(path, "").num_frames(0.0, lambda: None) == 25
    assert abs(VideoFile(path, "").num_frames(5.0, lambda: None) - 5) <= 1


def test_frames_in_memory_are_a_source_like_any_other(tmp_path):
    batch = FrameBatch(torch.rand(9, 70, 90, 3), "noise")
    manifest = draw_clips([batch], SMALL)
    clips, _ = encode(manifest, Cache(tmp_path, encoders()))
    assert clips[0].mean.shape == (4, 4, 8, 8)
    with pytest.raises(ValueError, match="frames has 3 frames"):
        draw_clips([FrameBatch(torch.rand(3, 70, 90, 3), "")], SMALL)


def test_videos_of_different_sizes_become_clips_of_one(video, tmp_path):
    write_video(tmp_path / "tall.mp4", size=(80, 120))
    manifest = draw_clips([VideoFile(video, ""), VideoFile(tmp_path / "tall.mp4", "")], SMALL)
    assert {tuple(clip.frames().shape) for clip in manifest.clips} == {(4, 64, 64, 3)}
    batches = [Batch(torch.zeros(1, 4, 4, size, 8), torch.zeros(1), torch.zeros(1), torch.zeros(1)) for size in (8, 16)]
    with pytest.raises(ValueError, match="clips of different sizes"):
        stack(batches)


def test_what_is_cached_is_not_encoded_again_until_it_changes(video, tmp_path):
    path = tmp_path / "own.mp4"
    path.write_bytes(video.read_bytes())
    source, calls = VideoFile(path, "a wave"), []
    cache = Cache(tmp_path / "cache", encoders(calls))
    clips, _ = encode(draw_clips([source], SMALL), cache)
    assert calls == ["", "frames", "a wave"]
    assert clips[0].mean.dtype == clips[0].context.dtype == torch.float16
    assert torch.equal(clips[0].context, torch.full((7, 24), 6.0).half())
    assert torch.equal(clips.empty_context, torch.zeros(7, 24).half())
    encode(draw_clips([source], SMALL), cache)
    assert len(calls) == 3
    os.utime(path, (1, 1))
    encode(draw_clips([source], SMALL), cache)
    assert calls[3:] == ["frames"]
    encode(draw_clips([source], ClipSampling(4, 2, 0, (64, 64), 1, CameraMove(zoom=1.2), CameraMove(zoom=1.3))), cache)
    assert calls[4:] == ["frames"]
    encode(draw_clips([source], SMALL), Cache(tmp_path / "cache", encoders(calls, "vae 2")))
    assert calls[5:] == ["", "frames", "a wave"]


def test_a_damaged_cache_file_is_encoded_again(video, tmp_path):
    manifest, calls = draw_clips([VideoFile(video, "")], SMALL), []
    cache = Cache(tmp_path, encoders(calls))
    encode(manifest, cache)
    path = cache.clip_path(manifest.clips[0])
    path.write_bytes(path.read_bytes()[:-10])
    encode(manifest, cache)
    assert calls == ["", "frames", "frames"]


def test_latents_that_are_not_numbers_never_get_into_the_cache(video, tmp_path):
    def frames(pictures):
        return torch.full((4, 4, 8, 8), float("nan")), torch.zeros(4, 4, 8, 8)

    cache = Cache(tmp_path, Encoders(frames, lambda caption: torch.zeros(7, 24), "broken"))
    with pytest.raises(ValueError, match="wave.mp4 is encoded to values that are not numbers"):
        cache.add_clip(draw_clips([VideoFile(video, "")], SMALL).clips[0], lambda: None)


def test_a_cancel_ends_the_encoding(video, tmp_path):
    class Cancel(Exception):
        pass

    def check():
        raise Cancel

    with pytest.raises(Cancel):
        draw_clips([VideoFile(video, "")], SMALL, check)
    manifest = draw_clips([VideoFile(video, "")], SMALL)
    with pytest.raises(Cancel):
        encode_manifest(manifest, Cache(tmp_path, encoders()), OneDevice(), check=check)


def test_a_manifest_is_written_with_a_line_per_clip(video, tmp_path):
    manifest = draw_clips([VideoFile(video, "a wave")], SMALL)
    manifest.write(tmp_path / "clips.jsonl")
    (line,) = (tmp_path / "clips.jsonl").read_text().splitlines()
    assert '"video": "wave.mp4", "caption": "a wave"' in line


@pytest.mark.parametrize("options", ({"num_frames": 0}, {"stride": 0}, {"size": (100, 64)}, {"clips_per_video": 0}))
def test_impossible_sampling_is_said(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ClipSampling(**options)


def test_every_epoch_has_each_clip_once():
    for epoch in range(3):
        seen = [clip_index(7, 11, epoch * 7 + place) for place in range(7)]
        assert sorted(seen) == list(range(7))
    assert [clip_index(7, 11, p) for p in range(7)] != [clip_index(7, 11, 7 + p) for p in range(7)]


def test_poses_are_the_videos_of_the_same_names(video, tmp_path):
    videos = [VideoFile(video, "a wave"), VideoFile(tmp_path / "other.mp4", "")]
    poses = tmp_path / "poses"
    with pytest.raises(FileNotFoundError, match="holds the videos' poses"):
        with_poses(videos, poses)
    poses.mkdir()
    with pytest.raises(ValueError, match="no poses for these videos"):
        with_poses(videos, poses)
    (poses / "wave.webm").write_bytes(video.read_bytes())
    posed = with_poses(videos, poses)
    assert posed[0].poses.path == poses / "wave.webm" and posed[1].poses is None
    assert draw_clips(posed[:1], SMALL).clips[0].description()["poses"] == "wave.webm"
    assert draw_clips(posed[:1], SMALL).digest() != draw_clips(videos[:1], SMALL).digest()


def posed_batch(length: int = 20, poses: int = 20) -> FrameBatch:
    """Frame i is a picture of its own; its pose is half as bright, and twice as large."""
    pictures = torch.rand(length, 80, 96, 3, generator=torch.Generator().manual_seed(1))
    pictures = torch.nn.functional.avg_pool2d(pictures.movedim(-1, 1), 9, 1, 4).movedim(1, -1)  # without sharp edges
    large = pictures[:poses].repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    return FrameBatch(pictures, "", poses=FrameBatch(large / 2, ""))


@pytest.mark.parametrize("move", [CameraMove(), CameraMove(zoom=1.5, pan=0.1, roll=10.0)])
def test_poses_are_of_the_same_frames_and_cut_as_they_are(move):
    drawing = {"num_frames": 4, "stride": 3, "size": (64, 80), "flip": True, "clips_per_video": 6}
    clips = draw_clips([posed_batch()], ClipSampling(**drawing, gentle=move, strong=move)).clips
    assert not any(clip.flip for clip in clips), "a drawn left arm would become a right one"
    for clip in clips:
        frames, poses = clip.frames_and_poses()
        assert torch.equal(frames, clip.frames()) and poses.shape == (4, 80, 64, 3)
        off = (poses * 2 - frames).abs().mean()
        assert off < 0.02 and (poses.flip(0) * 2 - frames).abs().mean() > 2 * off, "of other frames they would be"


def test_poses_of_another_shape_are_stretched_if_it_was_rounded(tmp_path):
    batch = posed_batch()
    for width, fits in ((100, True), (140, False)):
        poses = torch.nn.functional.interpolate(batch.pictures.movedim(-1, 1), (80, width), mode="bilinear") / 2
        clip = draw_clips([FrameBatch(batch.pictures, "", poses=FrameBatch(poses.movedim(1, -1), ""))], SMALL).clips[0]
        if fits:
            frames, stretched = clip.frames_and_poses()
            assert (stretched * 2 - frames).abs().mean() < 0.02
        else:
            with pytest.raises(ValueError, match="96 x 80 pixels and its poses of 140 x 80"):
                clip.frames_and_poses()


def test_poses_of_another_length_are_named_and_left_out(caplog):
    with pytest.raises(ValueError, match="has 20 frames and its poses have 15: they have to be the same"):
        draw_clips([posed_batch(poses=15)], SMALL)
    assert draw_clips([posed_batch(poses=19)], ClipSampling(num_frames=19, stride=1, size=(64, 64))).clips[0].start == 0


def posed_encoders(calls: list) -> Encoders:
    def looks(frames):
        calls.append("looks")
        return frames.mean(dim=(1, 2))

    return Encoders(encoders(calls).frames, None, "vae and clip vision", looks)


def test_posed_clips_are_encoded_once_and_read_back(tmp_path):
    calls = []
    manifest = draw_clips([posed_batch(), FrameBatch(torch.rand(20, 80, 96, 3), "", "bare")], SMALL)
    cache = cache_for(STAGES[ANIMATE_ANYONE], tmp_path, posed_encoders(calls))
    (reason,) = encode_manifest(manifest, cache, OneDevice())
    assert "bare has no poses: put a video of its name into the folder of poses" in reason
    assert encode_manifest(manifest, cache, OneDevice()) == (reason,) and calls == ["frames", "looks"]
    (clip,) = cache.clips(manifest)
    drawn = manifest.clips[0]
    assert clip.pairs and torch.allclose(clip.context.float(), drawn.frames().mean(dim=(1, 2)), atol=1e-3)
    assert clip.mean.dtype == torch.float16 and clip.mean.shape == (4, 4, 8, 8)
    packed, (_, wanted) = clip.poses.at([2, 0]), drawn.frames_and_poses()
    assert packed.dtype == torch.uint8
    assert torch.allclose(packed.movedim(1, -1) / 255, wanted[[2, 0]], atol=0.5 / 255 + 1e-6)
    assert not cache.clips(manifest).empty_context.any() and cache.clips(manifest).empty_context.shape == (1, 3)
    second = cache_for(STAGES[ANIMATE_ANYONE_MOTION], tmp_path, posed_encoders(calls))
    assert not second.clips(manifest)[0].pairs, "the second stage reads what the first has encoded"


def test_packed_poses_are_small_and_exact():
    pictures = torch.zeros(2, 96, 64, 3)
    pictures[:, 20:80, 30:34] = torch.tensor([1.0, 85 / 255, 0.0])
    packed = PackedPoses.of(pictures)
    assert torch.equal(packed.at([1])[0].movedim(0, -1), (pictures[1] * 255).to(torch.uint8))
    assert len(packed.frames[0]) < pictures[0].numel() / 50


def test_a_folder_that_cannot_be_made_is_named(video, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="clips.jsonl could not be written: "):
        draw_clips([VideoFile(video, "")], SMALL).write(tmp_path / "file" / "run" / "clips.jsonl")


@pytest.mark.parametrize("stage", STAGES)
def test_motion_is_not_learnt_from_single_frames(stage, tmp_path):
    manifest = draw_clips([FrameBatch(torch.zeros(1, 64, 64, 3), "")], ClipSampling(1, 1, size=(64, 64)))
    plan = Plan(STAGES[stage], manifest, TrainingSettings(), tmp_path)
    if stage == DOMAIN_ADAPTER:
        return check_length(plan, None)
    with pytest.raises(ValueError, match="The clips have one frame, and .* is learnt from several: raise num_frames"):
        check_length(plan, None)
