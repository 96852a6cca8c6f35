#!/bin/sh
# Judges a model in CI: runs one verb of secateur and leaves reports behind. The GitHub action and the GitLab template call this and
# nothing else. Everything comes from the environment, so that no text of a pull request ever becomes part of a command.
#
#   SECATEUR_COMMAND    run, verify, evaluate, check or ci
#   SECATEUR_MODEL      the model to judge; of `ci`, the stored results, one a line
#   SECATEUR_REFERENCE  the model that is right, of verify and evaluate
#   SECATEUR_PIPELINE   a pipeline file or a preset, of run
#   SECATEUR_DATA       descriptions of data, one a line
#   SECATEUR_OUTPUT     where `run` writes the result; among the reports if nothing is said
#   SECATEUR_ENGINE     tract or ort
#   SECATEUR_BASELINE   a lock file: the result is compared with it by `secateur ci`, too
#   SECATEUR_ARGUMENTS  further arguments, one a line
#   SECATEUR_REPORTS    the folder for report.html, result.json, summary.md, comment.md, junit.xml and, of check,
#                       findings.sarif [secateur-reports]
#   SECATEUR_NAME       what this report is called where there are several [secateur]
#   SECATEUR_COMMENT    true: comment on the pull request, by `gh` and GH_TOKEN
#   SECATEUR_DEFER      true: end with status 0 and leave secateur's to the output `status`
#   SECATEUR_WHEEL, SECATEUR_VERSION   `secateur-ci.sh install FOLDER` installs this wheel, or this version from PyPI, and ONNX Runtime
#                       where the engine is ort
#   SECATEUR_BIN        the program [secateur]
#
# It ends with secateur's status: 0 done, 1 the answer is no, 2 it could not be done, 130 interrupted.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
program=${SECATEUR_BIN:-secateur}
reports=${SECATEUR_REPORTS:-secateur-reports}
name=${SECATEUR_NAME:-secateur}

fail() {
    printf 'secateur-ci: %s\n' "$1" >&2
    exit 2
}

need() {
    [ -n "$2" ] || fail "$1 is not set, and \`$SECATEUR_COMMAND\` needs it"
}

# A virtual environment with the package and nothing else; its programs are on the PATH of later steps.
install() {
    python3 -m venv "$1"
    if [ -n "${SECATEUR_WHEEL:-}" ]; then
        wanted=$SECATEUR_WHEEL
    elif [ -n "${SECATEUR_VERSION:-}" ]; then
        wanted="secateur==$SECATEUR_VERSION"
    else
        wanted=secateur
    fi
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check -- "$wanted"
    [ "${SECATEUR_ENGINE:-}" != ort ] || "$1/bin/python" -m pip install --quiet --disable-pip-version-check onnxruntime
    [ -z "${GITHUB_PATH:-}" ] || printf '%s\n' "$1/bin" >>"$GITHUB_PATH"
    "$1/bin/secateur" --version
}

if [ "${1:-}" = install ]; then
    [ $# -eq 2 ] || fail "install takes the folder of the virtual environment"
    install "$2"
    exit 0
fi

SECATEUR_COMMAND=${SECATEUR_COMMAND:-}
model=${SECATEUR_MODEL:-}
need SECATEUR_MODEL "$model"

# Options first, then `--`: a file whose name begins with a hyphen is a file.
set -- --json
[ -z "${SECATEUR_ENGINE:-}" ] || set -- "$@" --engine "$SECATEUR_ENGINE"
while IFS= read -r line; do
    [ -z "$line" ] || set -- "$@" --data "$line"
done <<END
${SECATEUR_DATA:-}
END
while IFS= read -r line; do
    [ -z "$line" ] || set -- "$@" "$line"
done <<END
${SECATEUR_ARGUMENTS:-}
END
# One run gives the page and the figures; findings and baselines have no page.
case $SECATEUR_COMMAND in
run)
    need SECATEUR_PIPELINE "${SECATEUR_PIPELINE:-}"
    set -- "$@" --report "$reports/report.html" --force -o "${SECATEUR_OUTPUT:-$reports/model.onnx}" -- "$SECATEUR_PIPELINE" "$model"
    ;;
verify)
    need SECATEUR_REFERENCE "${SECATEUR_REFERENCE:-}"
    set -- "$@" --report "$reports/report.html" -- "$SECATEUR_REFERENCE" "$model"
    ;;
evaluate)
    need SECATEUR_DATA "${SECATEUR_DATA:-}"
    [ -z "${SECATEUR_REFERENCE:-}" ] || set -- "$@" --against "$SECATEUR_REFERENCE"
    set -- "$@" --report "$reports/report.html" -- "$model"
    ;;
check)
    set -- "$@" -- "$model"
    ;;
ci)
    need SECATEUR_BASELINE "${SECATEUR_BASELINE:-}"
    set -- "$@" --baseline "$SECATEUR_BASELINE" --
    while IFS= read -r line; do
        [ -z "$line" ] || set -- "$@" "$line"
    done <<END
$model
END
    ;;
*) fail "SECATEUR_COMMAND is \`$SECATEUR_COMMAND\`, not run, verify, evaluate, check or ci" ;;
esac

mkdir -p "$reports"
rm -f "$reports/report.html" "$reports/result.json" "$reports/summary.md" "$reports/comment.md" "$reports/junit.xml" "$reports/baseline.json" "$reports/findings.sarif"

status=0
"$program" "$SECATEUR_COMMAND" "$@" >"$reports/result.json" || status=$?

# Findings for code scanning, which reads SARIF.
if [ "$SECATEUR_COMMAND" = check ] && [ "$status" -le 1 ]; then
    shift
    "$program" check --format sarif "$@" >"$reports/findings.sarif" || [ $? -eq 1 ] || rm -f "$reports/findings.sarif"
fi

# The name of a stored result is what the baseline knows it by.
compared=0
if [ "$SECATEUR_COMMAND" != ci ] && [ -n "${SECATEUR_BASELINE:-}" ] && [ "$status" -le 1 ]; then
    stored=$reports/stored
    mkdir -p "$stored"
    stored=$stored/$(printf '%s' "$name" | tr -c 'A-Za-z0-9._-' _).json
    cp "$reports/result.json" "$stored"
    "$program" ci --json --baseline "$SECATEUR_BASELINE" -- "$stored" >"$reports/baseline.json" || compared=$?
    [ "$status" -ne 0 ] || status=$compared
fi

# Tables, annotations and test cases out of the figures.
annotate=
[ "${GITHUB_ACTIONS:-}" != true ] || annotate=--annotate
python3 "$here/summary.py" write --reports="$reports" --name="$name" --command="$SECATEUR_COMMAND" --model="$model" --status="$status" \
    ${annotate:+"$annotate"}
[ "${GITHUB_ACTIONS:-}" = true ] || cat "$reports/summary.md"
[ -z "${GITHUB_STEP_SUMMARY:-}" ] || cat "$reports/summary.md" >>"$GITHUB_STEP_SUMMARY"

# A comment that is not possible, as from a fork whose token may only read, is no failure of the model.
if [ "${SECATEUR_COMMENT:-}" = true ]; then
    python3 "$here/summary.py" comment --reports="$reports" --name="$name"
fi

[ -z "${GITHUB_OUTPUT:-}" ] || printf 'status=%s\n' "$status" >>"$GITHUB_OUTPUT"
[ "${SECATEUR_DEFER:-}" != true ] || exit 0
exit "$status"
