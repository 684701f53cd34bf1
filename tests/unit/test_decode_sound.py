"""The sound beside the frames: cut at the sample, kept in its place."""

from animatic_pack.nodes.media.decode import probe, read_sound
import numpy as np
import pytest
from video_files import ffmpeg, load, lossless, make, never, pictures, ramp

pytestmark = pytest.mark.usefixtures("warned")  # a file in which nothing is wrong gives no warning


def sound_of(path, start, seconds):
    assert probe(path, never).sound
    return read_sound(path, start, seconds, never)


@pytest.mark.parametrize("start, seconds", [(0.0, 1.0), (0.5, 0.25), (0.1234, 0.4), (0.75, 0.75), (1.5, 0.5)])
@pytest.mark.parametrize("channels", [1, 2])
def test_sound_is_cut_at_the_sample(tmp_path, start, seconds, channels):
    path = lossless(
        tmp_path / "a.mkv", pictures(24, 16, 16), "-c:a", "pcm_f32le", before=ramp(tmp_path, channels=channels)
    )
    samples, rate = sound_of(path, start, seconds)
    assert samples.dtype == np.float32 and rate == 8000 and samples.shape == (channels, round(seconds * rate))
    heard = start + np.arange(samples.shape[1]) / rate
    inside = heard < 1.0
    assert np.abs(samples[:, inside] - heard[inside] / 4).max(initial=0) < 1.1 / rate / 4
    assert not samples[:, heard > 1.001].any(), "silence after the end of the track"


def test_sound_of_a_long_file_is_decoded_no_further_than_needed(tmp_path, decoded):
    path = lossless(tmp_path / "a.mkv", pictures(2, 16, 16), "-c:a", "flac", before=ramp(tmp_path, 1200.0))
    sound_of(path, 0.0, 1200.0)
    all_of_it = decoded()
    assert sound_of(path, 0.5, 1.0)[0].shape == (1, 8000)
    assert 0 < decoded() < all_of_it / 100


def test_sound_that_begins_late_keeps_its_place(tmp_path):
    both = lossless(tmp_path / "both.mkv", pictures(48, 16, 16), "-c:a", "pcm_f32le", before=ramp(tmp_path))
    path = tmp_path / "late.mkv"
    ffmpeg("-i", both, "-itsoffset", "0.5", "-i", both, "-map", "0:v", "-map", "1:a", "-c", "copy", path)
    samples, rate = sound_of(path, 0.0, 2.0)
    heard = np.arange(16000) / rate - 0.5
    assert not samples[0, heard < -0.01].any() and not samples[0, heard > 1.01].any()
    inside = (heard > 0.01) & (heard < 0.99)
    assert np.abs(samples[0, inside] - heard[inside] / 4).max() < 0.001
    assert np.abs(sound_of(path, 1.0, 0.4)[0][0] - (0.5 + np.arange(3200) / rate) / 4).max() < 0.001


@pytest.mark.parametrize("name, codec", [("a.mp4", "aac"), ("a.webm", "libopus"), ("a.avi", "libmp3lame")])
def test_a_tone_changes_when_it_should(tmp_path, name, codec):
    """400 Hz for a second, then 1000 Hz: the loaded part begins in the first and ends in the second."""
    moments = np.arange(96000) / 48000
    tone = np.sin(2 * np.pi * np.where(moments < 1, 400, 1000) * moments).astype("<f4") / 2
    (tmp_path / "tone.f32").write_bytes(tone.tobytes())
    video = ["-c:v", "libvpx"] if name == "a.webm" else ["-c:v", "mpeg4"]
    before = ["-f", "f32le", "-ar", "48000", "-ac", "1", "-i", tmp_path / "tone.f32"]
    path = make(tmp_path / name, pictures(48, 16, 16), *video, "-c:a", codec, before=before)
    samples, rate = sound_of(path, 0.75, 0.5)
    assert samples.shape == (1, round(0.5 * rate))
    pitch = [np.fft.rfft(part).__abs__().argmax() * rate / len(part) for part in np.split(samples[0], 10)]
    assert pitch == pytest.approx([400] * 5 + [1000] * 5, abs=25)


def test_six_channels_and_sound_that_cannot_be_decoded(tmp_path, warned):
    path = tmp_path / "a.mkv"
    lossless(path, pictures(24, 16, 16), "-c:a", "pcm_f32le", before=ramp(tmp_path, channels=6))
    assert sound_of(path, 0.0, 0.5)[0].shape == (6, 4000)
    path.write_bytes(path.read_bytes().replace(b"A_PCM/FLOAT/IEEE", b"A_NOBODY/KNOWS/IT"[:16]))
    assert load(path)[3].sound and read_sound(path, 0.0, 0.5, never) is None
    assert "sound of a.mkv could not be read" in warned.pop()
