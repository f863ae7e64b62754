# shellcheck shell=sh
# For test scripts (sourced): numbers test points and ends with their plan.
tap_n=0 tap_bad=0
trap 'exit 1' INT TERM HUP PIPE # so that what a script does when it exits is done then, too

# tap NAME STATUS [WHY]: one test point, passed if STATUS is 0; WHY explains a failed one.
tap() {
    tap_n=$((tap_n + 1))
    if [ "$2" = 0 ]; then
        echo "ok $tap_n - $1"
    else
        tap_bad=$((tap_bad + 1))
        echo "not ok $tap_n - $1"
        printf '%s\n' "${3:-status $2}" | sed 's/^/# /'
    fi
}

# tap_skip NAME REASON
tap_skip() {
    tap_n=$((tap_n + 1))
    echo "ok $tap_n - $1 # SKIP $2"
}

tap_end() {
    echo "1..$tap_n"
    [ "$tap_bad" = 0 ] || exit 1
}
