"""Run the AVX-512 kernels on a machine without AVX-512: ``python tests/avx512_in_bochs.py [layers] [seed]``.

Boots Linux in Bochs, which emulates such a processor, with the driver of `test_emulated`, the layers of that test and
as many more as are asked for, by chance, each as a call and as a plan. Prints which are wrong and how many are right;
takes seven minutes. Debian: ``apt-get install bochs bochsbios vgabios isolinux syslinux-common genisoimage cpio
linux-headers-cloud-amd64``.
"""

import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from oracle import reference
from test_emulated import FLAGS, KERNELS, PROBLEMS, X86, EmulatedLayer, link, plain, stand_in

import fastconv

HERE = Path(__file__).parent
BOOT = "console=ttyS0 nokaslr mitigations=off noxsaves rdinit=/init"
MACHINE = """
display_library: rfb, options="timeout=0"
megs: 512
cpu: model=corei7_skylake_x, ips=100000000
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path=disc.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=serial.txt
log: bochs.txt
panic: action=report
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
"""


class Recorder(EmulatedLayer):
    """Keeps what the driver would be asked, and the array for its answer."""

    asked: list = []

    def ask(self, question, out):
        self.asked.append((question, out))
        return bytes(out.nbytes) + b"avx512"


def chance(rng):
    """A layer as `PROBLEMS` has them."""

    def pick(*values):
        return values[rng.integers(len(values))]

    taps, depthwise = pick(1, 1, 3, 3, 3, 5, 7), rng.random() < 0.25
    kernel = (taps, taps if rng.random() < 0.8 else pick(1, 3, 5))
    stride, dilation, padding = pick(1, 1, 1, 2, 3), pick(1, 1, 1, 2), pick(0, taps // 2, taps // 2, 1, taps)
    groups = pick(3, 5, 9, 17, 33) if depthwise else pick(1, 1, 1, 2, 3)
    channels = 1 if depthwise else pick(1, 2, 3, 4, 7, 9, 16, 20, 33, 70)
    outputs = pick(1, 1, 2, 4) if depthwise else pick(1, 3, 5, 8, 16, 17, 24, 33, 40, 64)
    most = (20, 40) if channels * outputs * groups < 1000 else (6, 16)
    size = [int(rng.integers(1, m)) + dilation * (k - 1) for m, k in zip(most, kernel, strict=True)]
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    options |= {"activation": pick(None, None, "relu", "silu", "relu6", "gelu")}
    ordinary = kernel == (3, 3) and stride == dilation == 1 and channels >= 3
    shape = (pick(1, 1, 2, 3), groups * channels, *size)
    if rng.random() < 0.35:
        shape, options["layout"] = (shape[0], *size, shape[1]), "NHWC"
    backend = "winograd" if ordinary and rng.random() < 0.4 else "cython"
    return backend, shape, (groups * outputs, channels, *kernel), options


def write_layers(folder, count, seed):
    """The layers as `bochs_init.c` wants them; returns what each of them is."""
    rng, names = np.random.default_rng(seed), []
    for backend, x_shape, w_shape, options in [*PROBLEMS, *(chance(rng) for _ in range(count))]:
        for planned in (False, True):
            dtype = "float64" if rng.random() < 0.3 else "float32"
            x, w, bias = (rng.standard_normal(shape).astype(dtype) for shape in (x_shape, w_shape, w_shape[:1]))
            Recorder.asked.clear()
            if planned:
                fastconv.plan(w, x_shape, bias, backend=backend, **options)(x, threads=1)
            else:
                fastconv.conv2d(x, w, bias, backend=backend, threads=1, **options)
            if len(Recorder.asked) != 1:
                continue  # a dilated winograd layer is several
            ((question, out),) = Recorder.asked
            known = {name: value for name, value in options.items() if name not in ("accuracy", "layout")}
            first = np.moveaxis(x, -1, 1) if "layout" in options else x
            right, sums = (reference(first, w, bias, **known | change) for change in ({}, {"activation": None}))
            expected, strides = np.zeros_like(plain(out)[0]), plain(out)[1]
            np.lib.stride_tricks.as_strided(expected, out.shape, strides)[...] = right.reshape(out.shape)
            each = (1e-5 if dtype == "float32" else 1e-13) * (20 if backend == "winograd" else 1)
            (folder / f"{len(names)}.in").write_bytes(question)
            (folder / f"{len(names)}.out").write_bytes(
                struct.pack("qd", out.itemsize, each * np.abs(sums).max()) + expected.tobytes()
            )
            names.append((backend, x_shape, w_shape, options, "plan" if planned else "call", dtype))
    return names


def run(*command, **how):
    return subprocess.run(command, check=True, **how)


def build_disc(work, root):
    """A disc with Debian's kernel for clouds, and our processes in place of its own."""
    (headers,) = sorted(Path("/usr/src").glob("linux-headers-*-cloud-amd64"))[-1:]
    image = headers.name.replace("headers", "image")
    run("apt-get", "download", "-q", image, cwd=work)
    (package,) = work.glob(f"{image}_*.deb")
    run("dpkg-deb", "-x", str(package), str(work / "kernel"))
    disc = work / "disc"
    disc.mkdir()
    shutil.copy(next((work / "kernel/boot").glob("vmlinuz-*")), disc / "vmlinuz")
    for loader in ("/usr/lib/ISOLINUX/isolinux.bin", "/usr/lib/syslinux/modules/bios/ldlinux.c32"):
        shutil.copy(loader, disc)
    (disc / "isolinux.cfg").write_text(f"default l\nlabel l\nkernel vmlinuz\nappend initrd=initrd {BOOT}\n")

    module = work / "module"
    module.mkdir()
    shutil.copy(HERE / "bochs_xcr0.c", module)
    (module / "Makefile").write_text("obj-m := bochs_xcr0.o\n")
    run("make", "-s", "-C", str(headers), f"M={module}", "modules")
    shutil.copy(module / "bochs_xcr0.ko", root)

    run("gcc", "-O1", "-static", "-o", str(root / "init"), str(HERE / "bochs_init.c"))
    for name, (width, flags) in {"baseline": (16, []), "avx512": X86["avx512"]}.items():
        options = [*FLAGS, "-O3", *flags, f"-DISA={name}", f"-DVECTOR_BYTES={width}", "-o", str(work / f"{name}.o")]
        run("gcc", *options, "-c", str(KERNELS / "isa.c"))
    link(work, "gcc", ["avx512"]).rename(root / "driver")

    with (disc / "initrd").open("wb") as archive:
        run("cpio", "-o", "-H", "newc", "--quiet", cwd=root, stdout=archive,
            input="\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*"))).encode())  # fmt: skip
    run("genisoimage", "-quiet", "-o", str(work / "disc.iso"), "-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot",
        "-boot-load-size", "4", "-boot-info-table", str(disc))  # fmt: skip


def main():
    count, seed = (
        (int(number) for number in (*sys.argv[1:], 200, 1)[:2]) if len(sys.argv) != 2 else (int(sys.argv[1]), 1)
    )
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        work, root = Path(folder), Path(folder, "root")
        (root / "layers").mkdir(parents=True)
        stand_in(monkeypatch, Recorder, 64, wide=True)
        names = write_layers(root / "layers", count, seed)
        build_disc(work, root)
        (work / "machine").write_text(MACHINE)
        (work / "commands").write_text("c\n")  # Debian's has a debugger, which waits for it
        with (work / "said.txt").open("w") as said:
            subprocess.run(["bochs", "-q", "-f", "machine", "-rc", "commands"], cwd=work, stdin=subprocess.DEVNULL,
                           stdout=said, stderr=said, timeout=3600)  # fmt: skip
        lines = (work / "serial.txt").read_text(errors="replace").splitlines()
    for line in lines:
        if line.startswith("no AVX-512"):
            print(line)
        elif line.startswith("wrong: "):
            print(line, *names[int(line.removeprefix("wrong: "))])
    (last,) = [line for line in lines if line.startswith("right: ")] or ["the machine did not come to its end"]
    print(last)
    return last != f"right: {len(names)} of {len(names)}"


if __name__ == "__main__":
    sys.exit(main())
