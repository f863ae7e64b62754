#!/bin/sh
# scenarios/REGISTER-BUGS.md says of each bug of the past where its test is: that file has a test whose
# name carries the bug's id, so that `ringlab run --filter '*C14*'` finds it. Prints TAP.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=ci/tap.sh
. "$root/ci/tap.sh"
cd "$root" || exit 1
names=$(mktemp)
trap 'rm -f "$names"' EXIT
"${BUILD:-build}/ringlab" run --list scenarios >"$names" </dev/null
tap scenarios_can_be_listed $?
while IFS='|' read -r _ id _ where _; do
    id=$(echo "$id" | tr -d ' ')
    case $id in
    C[0-9][0-9]) ;;
    *) continue ;;
    esac
    lacking=
    # shellcheck disable=SC2013 # file names without spaces
    for file in $(echo "$where" | grep -o '[a-z_]*/[a-z_]*\.lua'); do
        grep -q "^scenarios/$file: .*$id" "$names" || lacking="$lacking scenarios/$file"
    done
    tap "the_tests_of_${id}_carry_its_name" "$([ -z "$lacking" ]; echo $?)" "no test named $id in$lacking"
done <scenarios/REGISTER-BUGS.md
tap_end
