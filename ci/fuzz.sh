#!/bin/sh
# ci/fuzz.sh SECONDS FOLDER TARGET...: runs each libFuzzer program FOLDER/TARGET for so long, one after
# the other. Inputs that got somewhere new are kept in results/fuzz/TARGET, for the next run to go on
# from; a finding lies beside them, and its log is shown. Fails if there was one.
set -u

seconds=$1
folder=$2
shift 2
status=0
for target in "$@"; do
    kept=results/fuzz/$target
    log=$kept.log
    mkdir -p "$kept"
    if "$folder/$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=4096 \
        -len_control=10 -artifact_prefix="$kept-" "$kept" >"$log" 2>&1; then
        echo "ok $target: $(sed -n 's/^Done \([0-9]* runs in [0-9]*\).*/\1 s/p' "$log")," \
            "$(find "$kept" -type f | wc -l) inputs kept"
    else
        status=1
        echo "not ok $target: its log ($log) ends"
        grep -n -m1 -A60 'ERROR\|runtime error' "$log" || tail -n 60 "$log"
    fi
done
exit $status
