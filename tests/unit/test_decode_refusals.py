"""Files that are no videos are refused by name, and no file makes the decoder open another one."""

import numpy as np
from PIL import Image
import pytest
from video_files import ffmpeg, load, make, pictures, ramp

pytestmark = pytest.mark.usefixtures("warned")  # a file in which nothing is wrong gives no warning


NOT_VIDEOS = {
    "text.mp4": b"Dear diary, today I renamed a text file.\n" * 40,
    "empty.mp4": b"",
    "noise.webm": np.random.default_rng(2).bytes(5000),
    "riff.webp": b"RIFF\x20\x00\x00\x00WEBP" + b"\0" * 40,
    "page.mp4": b"<html><body>404</body></html>",
}


@pytest.mark.parametrize("name", NOT_VIDEOS)
def test_what_is_not_a_video_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(NOT_VIDEOS[name])
    with pytest.raises(ValueError, match=f"{name} .*(damaged|incomplete)"):
        load(tmp_path / name)


@pytest.mark.parametrize("name", ["sound.m4a", "sound.mp4", "sound.ogg", "cover.m4a"])
def test_sound_without_picture_is_refused(tmp_path, name):
    cover = []
    if name == "cover.m4a":
        Image.fromarray(pictures(1)[0]).save(tmp_path / "cover.png")
        cover = [
            "-i",
            tmp_path / "cover.png",
            "-map",
            "0",
            "-map",
            "1",
            "-c:v",
            "png",
            "-disposition:v",
            "attached_pic",
        ]
    codec = ["-c:a", "libvorbis" if name.endswith("ogg") else "aac"]
    ffmpeg(*ramp(tmp_path), *cover, *codec, tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} has no picture, only sound"):
        load(tmp_path / name)


PLAYLISTS = {
    "concat": "ffconcat version 1.0\nfile secret.mp4\n",
    "unsafe concat": "ffconcat version 1.0\nfile '{folder}/secret.mp4'\n",
    "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.5,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "hls absolute": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.5,\nfile:{folder}/secret.ts\n#EXT-X-ENDLIST\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" mediaPresentationDuration="PT1S" '
    'type="static"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1"><BaseURL>secret.mp4</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>",
    "subtitle script": "import secret.mp4\nFFVideoSource('secret.mp4')\n",
}


@pytest.mark.parametrize("name", ["list.mp4", "list.mkv", "list.gif", "list.m3u8"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_cannot_make_it_read_other_files(tmp_path, kind, name):
    for secret in ("secret.mp4", "secret.ts"):
        make(tmp_path / secret, pictures(5), "-c:v", "libx264", "-pix_fmt", "yuv420p")
    (tmp_path / name).write_text(PLAYLISTS[kind].format(folder=tmp_path))
    if kind == "concat":
        assert len(ffmpeg("-f", "concat", "-i", tmp_path / name, "-f", "rawvideo", "-")), "it works where it may"
    with pytest.raises(ValueError, match="is not a video"):
        load(tmp_path / name)


@pytest.mark.parametrize("name", ["100%d %03d.mp4", "-i.mp4", "a [input] 'b'; $HOME.mp4", "\u4e2d\u6587 \u00e9.mp4"])
def test_names_are_taken_as_they_are(tmp_path, name):
    make(tmp_path / "plain.mp4", pictures(3), "-c:v", "libx264", "-pix_fmt", "yuv420p")
    (tmp_path / "plain.mp4").rename(tmp_path / name)
    assert len(load(tmp_path / name)[0]) == 3
