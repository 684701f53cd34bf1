"""When frames are shown: variable rates, rates that a file does not tell, and animations frame by frame."""

from fractions import Fraction

from animatic_pack.nodes.media.decode import Selection, VideoInfo
from PIL import Image
import pytest
from video_files import RATE, hashes, load, make, pictures

pytestmark = pytest.mark.usefixtures("warned")  # a file in which nothing is wrong gives no warning


def test_variable_frame_rate(tmp_path):
    """Eight frames last three times as long as the eight that follow."""
    source = pictures(16, 16, 16)
    slow_then_fast = "setpts=if(lt(N\\,8)\\,3*N\\,N+16)/24/TB"
    path = make(tmp_path / "vfr.mov", source, "-c:v", "png", "-vf", slow_then_fast, "-fps_mode", "passthrough")
    frames, times, rate, _ = load(path)
    assert hashes(frames) == hashes(source) and RATE / 3 < rate < RATE
    assert times == pytest.approx([i / 8 for i in range(8)] + [1 + i / 24 for i in range(8)], abs=0.002)
    frames = load(path, force_rate=24)[0]
    assert hashes(frames) == hashes(source[[i // 3 for i in range(24)] + list(range(8, 16))])
    assert load(path, skip=9, cap=2)[1][0] == pytest.approx(1 + 1 / 24, abs=0.002)


FAST_THEN_SLOW = "setpts=if(lt(N\\,12)\\,N\\,12+4*(N-12))/24/TB"


@pytest.mark.parametrize("name, codec", [("a.mkv", "ffv1"), ("a.webm", "libvpx-vp9"), ("a.mp4", "libx264")])
def test_the_rate_is_the_mean_of_the_frames_that_are_loaded(tmp_path, name, codec):
    """Heads of mkv and webm state the rate of the first frames, mp4's the mean of all."""
    path = make(tmp_path / name, pictures(24), "-c:v", codec, "-vf", FAST_THEN_SLOW, "-fps_mode", "passthrough")
    assert load(path)[2] == pytest.approx(24 / 2.5, rel=0.002)
    assert load(path, cap=12)[2] == pytest.approx(24, rel=0.002)
    assert load(path, skip=12)[2] == pytest.approx(6, rel=0.002)
    assert load(path, skip=12, nth=2)[2] == pytest.approx(3, rel=0.002)


@pytest.mark.parametrize("rate", [8, 12, 15, 24, 30])
def test_a_gif_is_as_fast_as_it_was_made(tmp_path, rate):
    """Its delays are hundredths of a second, and its head states the shortest."""
    path = make(tmp_path / "a.gif", pictures(16, 16, 16), rate=rate)
    assert load(path)[2] == pytest.approx(rate, rel=0.02)


@pytest.mark.parametrize("name, codec", [("a.mkv", "ffv1"), ("a.webm", "libvpx-vp9"), ("a.mp4", "libx264")])
@pytest.mark.parametrize("rate", ["24000/1001", "30", "60"])
def test_an_even_rate_is_told_exactly(tmp_path, name, codec, rate):
    """Though mkv and webm count their frames' times in milliseconds."""
    path, exact = make(tmp_path / name, pictures(40, 16, 16), "-c:v", codec, rate=rate), float(Fraction(rate))
    assert load(path)[2] == pytest.approx(exact, rel=1e-6)
    for few in (2, 3, 7):
        assert load(path, skip=5, cap=few)[2] == pytest.approx(exact, rel=1e-6)


def test_a_recording_of_a_browser_does_not_tell_its_rate(tmp_path):
    """Its rate comes from its times: no duration of a frame, none of the file, and pauses."""
    options = ["-vf", "select=not(between(n\\,10\\,25))", "-fps_mode", "passthrough", "-enc_time_base", "1/1000"]
    path = make(tmp_path / "a.webm", pictures(40), *options, "-c:v", "libvpx", "-live", "1", "-f", "webm", rate=30)
    data = bytearray(path.read_bytes())
    at = data.index(b"\x23\xe3\x83\x84")  # DefaultDuration, 4 bytes, becomes Void of the same length
    data[at : at + 8] = b"\xec\x86" + bytes(6)
    path.write_bytes(data)
    frames, times, rate, info = load(path)
    assert len(frames) == 24 and (info.frame_rate, info.seconds) == (0, 0)
    assert rate == pytest.approx(24 / (40 / 30), rel=0.001)
    assert rate == pytest.approx(24 / (2 * times[-1] - times[-2])), "the last frame as long as the one before"
    assert len(load(path, force_rate=30)[0]) == 40


def test_what_is_unknown_is_measured_or_left_open():
    unknown = VideoInfo()
    assert Selection(nth=2).rate(unknown, [0.0, 0.2, 0.4]) == pytest.approx(5)
    assert Selection().rate(unknown, [0.0]) == 25 and Selection(force_rate=8, nth=2).rate(unknown, [0.0]) == 4
    assert Selection(cap=3).expected(unknown) == 3 and Selection().expected(unknown) == 0


DURATIONS = [100, 300, 200, 100]


def animation(path, **options):
    source = pictures(4, 16, 16)
    images = [Image.fromarray(frame) for frame in source]
    images[0].save(path, save_all=True, append_images=images[1:], duration=DURATIONS, loop=0, **options)
    return source


@pytest.mark.parametrize("name, options", [("a.webp", {"lossless": True}), ("a.gif", {}), ("a.png", {})])
def test_frames_of_animations_last_as_long_as_they_say(tmp_path, name, options):
    animation(tmp_path / name, **options)
    frames, times, _, _ = load(tmp_path / name)
    assert len(frames) == 4 and times == pytest.approx([0, 0.1, 0.4, 0.6])
    forced, times, rate, _ = load(tmp_path / name, force_rate=10)
    assert hashes(forced) == hashes(frames[[0, 1, 1, 1, 2, 2, 3]]) and rate == 10
    assert hashes(load(tmp_path / name, force_rate=10, skip=1, nth=2, cap=2)[0]) == hashes(frames[[1, 1]])
    assert hashes(load(tmp_path / name, skip=1, nth=2)[0]) == hashes(frames[[1, 3]])


def test_webp_pixels_rate_and_still(tmp_path):
    source = animation(tmp_path / "a.webp", lossless=True)
    assert hashes(load(tmp_path / "a.webp")[0]) == hashes(source)
    make(tmp_path / "b.webp", pictures(5), "-c:v", "libwebp_anim", "-lossless", "1", rate=8)
    frames, _, rate, _ = load(tmp_path / "b.webp", nth=2)
    assert len(frames) == 3 and rate == 4
    Image.fromarray(source[0]).save(tmp_path / "still.webp", lossless=True)
    assert hashes(load(tmp_path / "still.webp")[0]) == hashes(source[:1])
    with pytest.raises(ValueError, match="skip_first_frames"):
        load(tmp_path / "a.webp", skip=4)


def test_frames_of_a_webp_that_say_no_duration_last_a_tenth_of_a_second(tmp_path):
    images = [Image.fromarray(picture) for picture in pictures(3, 16, 16)]
    images[0].save(tmp_path / "still.webp", lossless=True)
    assert len(load(tmp_path / "still.webp", force_rate=8)[0]) == 1
    for name in ("a.webp", "a.gif"):
        images[0].save(tmp_path / name, save_all=True, append_images=images[1:], duration=0)
        assert load(tmp_path / name)[1] == pytest.approx([0, 0.1, 0.2])
        assert len(load(tmp_path / name, force_rate=20)[0]) == 6


@pytest.mark.parametrize("rate", [6, 9, 10, 25])
def test_webp_is_timed_as_ffmpeg_times_it(tmp_path, rate):
    animation(tmp_path / "a.webp", lossless=True)
    animation(tmp_path / "a.png")
    assert hashes(load(tmp_path / "a.webp", force_rate=rate)[0]) == hashes(load(tmp_path / "a.png", force_rate=rate)[0])
