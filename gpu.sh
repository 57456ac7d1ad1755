#!/usr/bin/env bash
# Checks and measures on one GPU, with or without network, and packs the records; see docs/gpu.md.
#
#   bash gpu.sh                instruments, engine_x_patchout, and how long everything else takes
#   bash gpu.sh NAME…          studies; or "tests" (on CUDA), "official" (the authors' PaSST)
#   bash gpu.sh --dry-run      the first on a CPU, with tiny models and two variants
#
# Environment: WHEELS, a folder of wheels (.whl); OUT, where the archive goes (gpu-records);
# SECONDS_LIMIT, after which what is left is skipped (480); PASST_BENCH_COMMIT, the commit of this
# copy of the files, if its repository does not know it.
cd "$(dirname "$0")" || exit 2
out=$(mkdir -p "${OUT:-gpu-records}" && cd "${OUT:-gpu-records}" && pwd) || exit 2
work=$(mktemp -d)
runs=$work/gpu-records
limit=${SECONDS_LIMIT:-480}
failed=()
dry='' child=''
[ "${1:-}" = --dry-run ] && { dry=1; shift; }

python=$PWD/.nox/passt-bench/bin/python # made by nox; otherwise the machine's own, with wheels
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
if [ ! -x "$python" ]; then
    python=python3
    wheels=("${WHEELS:-.whl}"/*.whl)
    if [ -e "${wheels[0]}" ]; then
        python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
            --target "$work/site" "${wheels[@]}" || exit 2
        export PYTHONPATH=$work/site:$PYTHONPATH
    fi
fi
export PYTHONUNBUFFERED=1 COLUMNS=${COLUMNS:-120}
bench=("$python" -m passt_bench)

pack() { # an archive of what has been recorded so far, whatever ended this script
    local archive=$out/gpu-records.tar.gz folders=() name
    for name in records studies search; do
        [ -d "$runs/$name" ] && folders+=("gpu-records/$name")
    done
    [ -e "$archive" ] && archive=$out/gpu-records-$(date +%s).tar.gz # keeps those of earlier calls
    [ ${#folders[@]} -gt 0 ] || { echo "No records, no archive."; return 1; }
    tar -czf "$archive" -C "$work" --exclude='checkpoint*' --exclude='best.pt' \
        --exclude='*.safetensors' "${folders[@]}" || return 1
    echo "Archive: $archive ($(du -k "$archive" | cut -f1) KiB)"
    [ "$(stat -c %s "$archive")" -le $((16 * 1024 * 1024)) ] || { echo "Larger than 16 MiB."; return 1; }
}

finish() {
    trap - EXIT
    pack || failed+=(archive)
    rm -rf "$work"
    echo "${SECONDS} s. ${failed[*]:+Failed or skipped: }$(IFS=,; echo "${failed[*]:-All passed.}")"
    exit $((${#failed[@]} > 0))
}
trap finish EXIT
trap 'failed+=(stopped); [ "$child" ] && kill $child && wait $child; exit' INT TERM

stage() { # NAME COMMAND…: runs a command in the time that is left; a failure does not stop others
    local name=$1 start=$SECONDS left=$((limit - SECONDS)) status
    shift
    [ $left -gt 0 ] || { echo "=== $name: skipped, the $limit s are up"; failed+=("$name"); return; }
    echo "=== $name"
    timeout --kill-after=10 "$left" "$@" & # in the background, so that a signal ends it at once
    child=$!
    wait $child
    status=$?
    child=
    echo "=== $name: exit status $status after $((SECONDS - start)) s"
    [ $status -eq 0 ] || failed+=("$name")
}

study() { # NAME: its name on record ends in that of the GPU; a session that is stopped leaves nothing
    stage "$1" "${bench[@]}" run "$1" --name "$1_$gpu" --device cuda --per-gpu 8 --no-track \
        --set "measurement.seconds=$((limit / 3))" --runs "$runs"
}

today=precision=bfloat16,residual=compute,compile=default,graph=true
official() { # TOKENS BATCH OURS THEIRS: the authors' code as it ships, in float16, beside ours
    stage "official, $1 tokens" "${bench[@]}" compare "hear21passt:precision=float16$4" "$3:$today" \
        --batch "$2" --device cuda --set measurement.seconds=30 --name "official_$1_$gpu" --runs "$runs"
}

minutes() { # NAME OPTION…: a line of how long a study would take
    local text
    [ $SECONDS -lt "$limit" ] || return
    text=$(timeout 60 "${bench[@]}" plan "$@" --runs "$runs" 2>&1 | tr '\n' ' ' | grep -oE 'about [^.]* in all')
    echo "bash gpu.sh $1: ${text:-no estimate}"
}

if [ $dry ]; then
    stage instruments "${bench[@]}" doctor --instruments
    stage engine_x_patchout "${bench[@]}" run engine_x_patchout --name engine_x_patchout_dry \
        --variant "today, 254 tokens" --set model.name=passt_micro --set model.depth=1 \
        --set model.width=16 --set measurement.batch_size=1 --set measurement.seconds=1 \
        --set engine.threads=1 --no-track --runs "$runs"
    minutes quick
    exit
fi
gpu=$("$python" -c 'import torch; print(torch.cuda.get_device_name().lower())' 2>/dev/null)
[ "$gpu" ] || { echo "No CUDA device; on a CPU: bash gpu.sh --dry-run"; failed+=(CUDA); exit; }
echo "=== $gpu"
gpu=$(grep -oE '[a-z]*[0-9]+' <<<"$gpu" | head -1) # h100
gpu=${gpu:-gpu}
if [ $# -eq 0 ]; then
    stage instruments "${bench[@]}" doctor --instruments --device cuda
    study engine_x_patchout
    for name in engine batch_x_patchout length quick; do
        minutes "$name" --device cuda --per-gpu 8
    done
    echo "bash gpu.sh official: about 5 min, with the wheel of examples/peers"
    echo "bash gpu.sh tests: about 3 min"
fi
structured=,patchout.kind=structured,patchout.time
for name in "$@"; do
    case $name in
        tests) stage tests "$python" -m pytest -q tests/system/test_cuda.py ;;
        official)
            official 1190 32 passt_b ""
            official 474 64 passt_s "$structured=40,patchout.frequency=4"
            official 254 128 passt_s_n ",stride=16$structured=20,patchout.frequency=2"
            ;;
        *) study "$name" ;;
    esac
done
