"""The pack outside of ComfyUI: a package whose folder is the project's root, so that `animatic_pack.lora` is lora/.

The root's own module is not run, because it registers nodes with a host. Nor does the root stand on sys.path, where its
nodes/ would hide the host's module of that name.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
__path__ = [str(ROOT)]
